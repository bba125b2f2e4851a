#include "kernels/arena.h"

#include <algorithm>
#include <utility>

#include "base/require.h"

namespace flex {
namespace {

// A growing arena takes at least this much at a time, so that a first round does not ask the device for every
// small tensor; and no more, since a first round must not need more memory than those that follow.
constexpr std::int64_t kMinBlockBytes = std::int64_t{1} << 20;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

}  // namespace

Arena::Arena(Device device) : device_(device) {}

Arena::~Arena() { release(); }

Arena::Arena(Arena&& other) noexcept
    : device_(other.device_),
      blocks_(std::exchange(other.blocks_, {})),
      used_bytes_(std::exchange(other.used_bytes_, 0)),
      peak_bytes_(other.peak_bytes_),
      num_allocations_(other.num_allocations_) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this != &other) {
    release();
    device_ = other.device_;
    blocks_ = std::exchange(other.blocks_, {});
    used_bytes_ = std::exchange(other.used_bytes_, 0);
    peak_bytes_ = other.peak_bytes_;
    num_allocations_ = other.num_allocations_;
  }
  return *this;
}

void Arena::release() noexcept {
  for (const Block& block : blocks_) free_bytes(device_, block.data);
  blocks_.clear();
}

void Arena::add_block(std::int64_t bytes) {
  blocks_.reserve(blocks_.size() + 1);  // before the memory is asked for, so that neither is lost
  blocks_.push_back({static_cast<char*>(allocate_bytes(device_, bytes)), bytes, 0});
  ++num_allocations_;
}

TensorView Arena::take(DType dtype, Shape shape) {
  const std::int64_t bytes = aligned(checked_bytes(dtype, shape));
  if (blocks_.empty() || blocks_.back().used + bytes > blocks_.back().bytes) {
    add_block(std::max(bytes, kMinBlockBytes));
  }
  Block& block = blocks_.back();
  void* data = block.data + block.used;
  block.used += bytes;
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {data, dtype, shape, device_};
}

void Arena::rewind(std::int64_t mark) {
  if (blocks_.size() != 1) return;
  blocks_.front().used = mark;
  used_bytes_ = mark;
}

void Arena::reset() {
  used_bytes_ = 0;
  if (blocks_.size() > 1) {
    release();
    add_block(peak_bytes_);
    return;
  }
  for (Block& block : blocks_) block.used = 0;
}

void Arena::reserve(std::int64_t bytes) {
  require(used_bytes_ == 0, "arena: reserve() while {} bytes are taken", used_bytes_);
  if (capacity_bytes() >= bytes && blocks_.size() == 1) return;
  release();
  add_block(aligned(bytes));
}

std::int64_t Arena::capacity_bytes() const {
  std::int64_t sum = 0;
  for (const Block& block : blocks_) sum += block.bytes;
  return sum;
}

}  // namespace flex
