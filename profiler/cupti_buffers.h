#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace flex {

/// The memory that CUPTI writes records into. CUPTI asks for buffers and hands them back on threads of its
/// own; every buffer that it hands back returns to the pool, whatever is in it. For any threads. Calls
/// nothing of CUPTI, so that its lock is never held across a call that may come back here.
class CuptiBuffers {
 public:
  static constexpr std::size_t kAlignment = 4096;  ///< at least cupti::kRecordAlignment
  static constexpr std::size_t kMaxIdle = 8;       ///< more idle buffers than that are freed

  explicit CuptiBuffers(std::size_t buffer_bytes);

  /// A buffer of size() bytes, or null if the host has no memory: CUPTI then drops records and counts them.
  [[nodiscard]] std::uint8_t* request() noexcept;
  /// Takes a buffer back, of which the first bytes hold records. One that request() did not hand out is left
  /// alone and counted.
  void complete(std::uint8_t* buffer, std::size_t valid_bytes) noexcept;

  struct Filled {
    std::uint8_t* data = nullptr;
    std::size_t valid_bytes = 0;
  };
  /// The buffers that were completed since the last call, in the order in which they came. Each must be given
  /// to recycle().
  [[nodiscard]] std::vector<Filled> take_filled();
  void recycle(std::uint8_t* buffer) noexcept;
  /// Waits until a completed buffer is there. False: there was none in time.
  bool wait_filled_blocking(std::chrono::milliseconds timeout);
  /// Waits until CUPTI holds no buffer. False: it still did when the time was up.
  bool wait_returned_blocking(std::chrono::milliseconds timeout);

  [[nodiscard]] std::size_t size() const { return buffer_bytes_; }
  [[nodiscard]] std::size_t num_outstanding() const;  ///< with CUPTI
  [[nodiscard]] std::size_t num_idle() const;         ///< ready for CUPTI
  [[nodiscard]] std::int64_t num_refused() const;     ///< completed, but never handed out

 private:
  struct Free {
    void operator()(std::uint8_t* buffer) const noexcept;
  };
  using Buffer = std::unique_ptr<std::uint8_t[], Free>;

  struct Held {
    Buffer buffer;
    bool with_cupti = true;  // else filled, until recycle()
  };

  const std::size_t buffer_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint8_t*, Held> held_;
  std::size_t num_outstanding_ = 0;
  std::vector<Filled> filled_;  // has room for all of held_: taking a buffer back allocates nothing
  std::vector<Buffer> idle_;    // has room for kMaxIdle
  std::int64_t num_refused_ = 0;
};

}  // namespace flex
