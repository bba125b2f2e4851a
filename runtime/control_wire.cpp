#include "runtime/control_wire.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/require.h"

namespace flex {
namespace {

constexpr std::array<char, 4> kMagic = {'F', 'L', 'X', '1'};
constexpr std::size_t kHeaderBytes = kMagic.size() + sizeof(std::uint32_t) + sizeof(std::uint64_t);

}  // namespace

std::string printable(std::string_view bytes) {
  constexpr std::size_t kMostShown = 40;
  std::string text(bytes.substr(0, kMostShown));
  std::ranges::replace_if(
      text, [](unsigned char c) { return std::isprint(c) == 0; }, '.');
  return text;
}

std::string frame_bytes(FrameKind kind, std::string_view payload) {
  require<CommError>(
      payload.size() <= kMostFrameBytes,
      "the control channel carries messages of up to {} bytes, this one has {}; move tensors on "
      "CUDA streams",
      kMostFrameBytes, payload.size());
  WireWriter header;
  for (const char c : kMagic) header.put(c);
  header.put(static_cast<std::uint32_t>(kind)).put(static_cast<std::uint64_t>(payload.size()));
  std::string bytes = header.bytes();
  bytes.append(payload);
  return bytes;
}

std::optional<Frame> FrameReader::next() {
  const std::size_t known = std::min(buffer_.size(), kMagic.size());
  if (!std::equal(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(known), kMagic.begin())) {
    fail<CommError>("it sent '{}'", printable(buffer_));
  }
  if (buffer_.size() < kHeaderBytes) return std::nullopt;
  WireReader header(std::string_view(buffer_).substr(kMagic.size(), kHeaderBytes - kMagic.size()));
  const auto kind = header.get<std::uint32_t>();
  const auto length = header.get<std::uint64_t>();
  require<CommError>(kind < kNumFrameKinds && length <= most_bytes_,
                     "it sent a message of kind {} and {} bytes; another version of Flex?", kind, length);
  if (buffer_.size() < kHeaderBytes + length) return std::nullopt;
  Frame frame{static_cast<FrameKind>(kind), buffer_.substr(kHeaderBytes, length)};
  buffer_.erase(0, kHeaderBytes + length);
  return frame;
}

std::string_view WireReader::take(std::size_t bytes) {
  require<CommError>(bytes <= bytes_.size(), "a message ends {} bytes early", bytes - bytes_.size());
  const std::string_view taken = bytes_.substr(0, bytes);
  bytes_.remove_prefix(bytes);
  return taken;
}

std::int64_t WireReader::get_count(std::int64_t most) {
  const auto count = get<std::int64_t>();
  require<CommError>(count >= 0 && count <= most, "a message holds the number {}; it is 0 to {}", count,
                     most);
  return count;
}

std::string_view WireReader::get_text() {
  const auto length = get<std::uint64_t>();
  return take(length);
}

void WireReader::finish() const {
  require<CommError>(bytes_.empty(), "a message has {} bytes too many", bytes_.size());
}

}  // namespace flex
