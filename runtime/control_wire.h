#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

/// How messages of the control channel look on the wire: a header (magic, kind, length) and a payload, in the
/// byte order of the machine, which all machines of a job share. What is read is trusted in nothing.
namespace flex {

enum class FrameKind : std::uint32_t {
  kHello,     ///< rank to hub: who I am
  kWelcome,   ///< hub to rank: all have joined
  kRefused,   ///< hub to a stranger: why it cannot join
  kGroup,     ///< rank to hub: the members of a group that I will call in
  kArrival,   ///< rank to hub: I have come to a call, with my data
  kComplete,  ///< hub to rank: all have come; the data for you
  kStuck,     ///< rank to hub: an operation of my device has run into the deadline
  kInquiry,   ///< hub to rank: what are you doing?
  kReport,    ///< rank to hub: the answer
  kAbort,     ///< either way: the world has failed, and why
  kBeat,      ///< either way: I am alive; a rank adds what it does
  kLeave,     ///< rank to hub: I end in good order
};
inline constexpr std::uint32_t kNumFrameKinds = static_cast<std::uint32_t>(FrameKind::kLeave) + 1;

/// The channel carries counts, settings and small host buffers; tensors go through NCCL.
inline constexpr std::uint64_t kMostFrameBytes = std::uint64_t{64} << 20;
/// A stranger that has not said who it is gets no more memory than this.
inline constexpr std::uint64_t kMostHelloBytes = std::uint64_t{64} << 10;

struct Frame {
  FrameKind kind = FrameKind::kBeat;
  std::string payload;
};

/// The bytes of one message. @throws CommError for more than kMostFrameBytes.
[[nodiscard]] std::string frame_bytes(FrameKind kind, std::string_view payload);

/// Cuts a stream of bytes into frames.
class FrameReader {
 public:
  void limit(std::uint64_t most_bytes) { most_bytes_ = most_bytes; }
  void append(std::string_view bytes) { buffer_.append(bytes); }
  /// The next whole frame, if there is one. @throws CommError for bytes that no Flex process sends; they are
  /// quoted.
  [[nodiscard]] std::optional<Frame> next();

 private:
  std::string buffer_;
  std::uint64_t most_bytes_ = kMostFrameBytes;
};

/// Up to 40 of these bytes, printable: `GET / HTTP/1.1..`.
[[nodiscard]] std::string printable(std::string_view bytes);

/// Appends numbers and texts to a payload.
class WireWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> WireWriter& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  WireWriter& put_text(std::string_view text) {
    put(static_cast<std::uint64_t>(text.size()));
    bytes_.append(text);
    return *this;
  }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Takes them out again. @throws CommError where a payload is too short, too long or a number out of bounds.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  requires std::is_arithmetic_v<T>
  [[nodiscard]] T get() {
    T value{};
    std::ranges::copy(take(sizeof(T)), reinterpret_cast<char*>(&value));
    return value;
  }
  /// A number from 0 to `most`.
  [[nodiscard]] std::int64_t get_count(std::int64_t most);
  [[nodiscard]] std::string_view get_text();
  /// Nothing may be left.
  void finish() const;

 private:
  [[nodiscard]] std::string_view take(std::size_t bytes);
  std::string_view bytes_;
};

}  // namespace flex
