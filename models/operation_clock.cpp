#include "models/operation_clock.h"

#include <algorithm>
#include <functional>

namespace flex {

KernelWork OperationShare::total_work() const {
  KernelWork total;
  for (const KernelWork& part : work) {
    total.multiply_accumulates += part.multiply_accumulates;
    total.bytes += part.bytes;
  }
  return total;
}

double floor_us(const OperationShare& share, const DeviceCeilings& ceilings) {
  double sum_us = 0;
  for (const KernelWork& part : share.work) sum_us += floor_us(part, ceilings);
  return sum_us;
}

void OperationClock::start_blocking(Stream& stream) {
  names_.clear();
  work_.clear();
  marks_->start_blocking(stream);
}

void OperationClock::begin(std::string_view name, Stream& stream) {
  names_.push_back(name);
  marks_->mark(stream);
}

std::vector<OperationShare> OperationClock::shares() {
  const std::span<const std::int64_t> times_ns = marks_->times_ns();
  std::vector<OperationShare> shares;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    auto share = std::ranges::find(shares, names_[i], &OperationShare::name);
    if (share == shares.end()) share = shares.insert(share, {.name = std::string(names_[i])});
    ++share->count;
    share->total_us += static_cast<double>(times_ns[2 * i + 1] - times_ns[2 * i]) * 1e-3;
  }
  for (const Part& part : work_)
    std::ranges::find(shares, names_[part.operation], &OperationShare::name)->work.push_back(part.work);
  std::ranges::sort(shares, std::greater<>{}, &OperationShare::total_us);
  return shares;
}

}  // namespace flex
