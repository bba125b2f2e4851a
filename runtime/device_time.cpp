#include "runtime/device_time.h"

#include <algorithm>

namespace flex {
namespace {

/// The moments at which pieces change, and what one piece has got by then if it was there all the time.
class Shares {
 public:
  explicit Shares(std::span<const DeviceWork> work) {
    for (const DeviceWork& piece : work) {
      for (const std::int64_t ns : {piece.ready_ns, piece.begin_ns, piece.end_ns}) moments_.push_back(ns);
    }
    std::ranges::sort(moments_);
    moments_.erase(std::ranges::unique(moments_).begin(), moments_.end());
    std::vector<int> more_ready(moments_.size());
    std::vector<int> more_running(moments_.size());
    for (const DeviceWork& piece : work) {
      ++more_ready[place(piece.ready_ns)];
      --more_ready[place(piece.begin_ns)];
      ++more_running[place(piece.begin_ns)];
      --more_running[place(piece.end_ns)];
    }
    ready_.resize(moments_.size());
    running_.resize(moments_.size());
    int num_ready = 0;
    int num_running = 0;
    for (std::size_t i = 0; i + 1 < moments_.size(); ++i) {
      num_ready += more_ready[i];
      num_running += more_running[i];
      const auto ns = static_cast<double>(moments_[i + 1] - moments_[i]);
      running_[i + 1] = running_[i] + (num_running > 0 ? ns / num_running : 0);
      ready_[i + 1] = ready_[i] + (num_running == 0 && num_ready > 0 ? ns / num_ready : 0);
    }
  }

  [[nodiscard]] double of(const DeviceWork& piece) const {
    const std::size_t begin = place(piece.begin_ns);
    return ready_[begin] - ready_[place(piece.ready_ns)] + running_[place(piece.end_ns)] - running_[begin];
  }

 private:
  [[nodiscard]] std::size_t place(std::int64_t ns) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(moments_, ns) - moments_.begin());
  }

  std::vector<std::int64_t> moments_;  // in order, each once
  std::vector<double> ready_;          // by moment, to pieces that are ready
  std::vector<double> running_;        // by moment, to pieces under way
};

}  // namespace

std::vector<double> divide_device_time(std::span<const DeviceWork> work) {
  const Shares shares(work);
  std::vector<double> divided_ns;
  divided_ns.reserve(work.size());
  for (const DeviceWork& piece : work) divided_ns.push_back(shares.of(piece));
  return divided_ns;
}

}  // namespace flex
