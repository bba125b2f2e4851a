#include "profiler/cupti_buffers.h"

#include <algorithm>
#include <new>
#include <utility>

namespace flex {

void CuptiBuffers::Free::operator()(std::uint8_t* buffer) const noexcept {
  ::operator delete[](buffer, std::align_val_t{kAlignment});
}

CuptiBuffers::CuptiBuffers(std::size_t buffer_bytes) : buffer_bytes_(buffer_bytes) {
  idle_.reserve(kMaxIdle);
}

std::uint8_t* CuptiBuffers::request() noexcept try {
  const std::scoped_lock lock(mutex_);
  Buffer buffer;
  if (idle_.empty()) {
    buffer.reset(static_cast<std::uint8_t*>(::operator new[](buffer_bytes_, std::align_val_t{kAlignment})));
  } else {
    buffer = std::move(idle_.back());
    idle_.pop_back();
  }
  filled_.reserve(held_.size() + 1);
  std::uint8_t* const data = buffer.get();
  held_.emplace(data, Held{.buffer = std::move(buffer)});
  ++num_outstanding_;
  return data;
} catch (const std::bad_alloc&) {
  return nullptr;
}

void CuptiBuffers::complete(std::uint8_t* buffer, std::size_t valid_bytes) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    const auto held = held_.find(buffer);
    if (held == held_.end() || !held->second.with_cupti) {
      ++num_refused_;
      return;
    }
    held->second.with_cupti = false;
    --num_outstanding_;
    filled_.push_back({.data = buffer, .valid_bytes = std::min(valid_bytes, buffer_bytes_)});
  }
  changed_.notify_all();
}

std::vector<CuptiBuffers::Filled> CuptiBuffers::take_filled() {
  const std::scoped_lock lock(mutex_);
  std::vector<Filled> taken = filled_;  // a copy: filled_ keeps its room
  filled_.clear();
  return taken;
}

void CuptiBuffers::recycle(std::uint8_t* buffer) noexcept {
  const std::scoped_lock lock(mutex_);
  const auto held = held_.find(buffer);
  if (held == held_.end() || held->second.with_cupti) return;
  if (idle_.size() < kMaxIdle) idle_.push_back(std::move(held->second.buffer));
  held_.erase(held);
}

bool CuptiBuffers::wait_filled_blocking(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return !filled_.empty(); });
}

bool CuptiBuffers::wait_returned_blocking(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return num_outstanding_ == 0; });
}

std::size_t CuptiBuffers::num_outstanding() const {
  const std::scoped_lock lock(mutex_);
  return num_outstanding_;
}

std::size_t CuptiBuffers::num_idle() const {
  const std::scoped_lock lock(mutex_);
  return idle_.size();
}

std::int64_t CuptiBuffers::num_refused() const {
  const std::scoped_lock lock(mutex_);
  return num_refused_;
}

}  // namespace flex
