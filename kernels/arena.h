#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

namespace flex {

/// Hands out memory by moving a pointer, and takes all of it back at once. A first round that does not fit
/// grows by further blocks; reset() then merges them into one, so that a warmed-up round allocates nothing.
/// A view from an arena is valid until the next reset(). Not for several threads at once.
class Arena {
 public:
  explicit Arena(Device device);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Uninitialized memory for one tensor. @throws OutOfMemoryError when the device has no more, InputError
  /// like checked_bytes().
  [[nodiscard]] TensorView take(DType dtype, Shape shape);
  /// Position to come back to, for memory that is only needed for a while.
  [[nodiscard]] std::int64_t mark() const { return used_bytes_; }
  /// Gives back what was taken since mark(); a no-op while the arena still grows.
  void rewind(std::int64_t mark);
  /// Gives everything back. Queued work that uses it must have run if merges_on_reset(), and otherwise be
  /// ordered before what comes next.
  void reset();
  /// True if reset() would return memory to the device.
  [[nodiscard]] bool merges_on_reset() const { return blocks_.size() > 1; }
  /// Makes one block of at least `bytes`, so that the first round need not grow. Only while nothing is taken.
  void reserve(std::int64_t bytes);

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] std::int64_t used_bytes() const { return used_bytes_; }
  /// Largest used_bytes() so far.
  [[nodiscard]] std::int64_t peak_bytes() const { return peak_bytes_; }
  /// Bytes held from the device.
  [[nodiscard]] std::int64_t capacity_bytes() const;
  /// How often memory was asked of the device.
  [[nodiscard]] std::int64_t num_allocations() const { return num_allocations_; }

 private:
  struct Block {
    char* data;
    std::int64_t bytes;
    std::int64_t used;
  };
  void release() noexcept;
  void add_block(std::int64_t bytes);

  Device device_;
  std::vector<Block> blocks_;
  std::int64_t used_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
  std::int64_t num_allocations_ = 0;
};

}  // namespace flex
