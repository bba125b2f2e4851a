#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "profiler/mark_source.h"

namespace flex {

/// Marks by the host's clock, read by the worker of a CPU stream when it comes to the mark.
class HostSource final : public MarkSource {
 public:
  void start_blocking(Stream& stream) override;
  void mark(Stream& stream) override;
  void mark_now() override;
  [[nodiscard]] std::span<const std::int64_t> times_ns() override;

 private:
  /// Stays where it is when it grows: what is queued writes into it.
  using Times = std::deque<std::int64_t>;
  std::int64_t& next();

  std::shared_ptr<Times> times_ = std::make_shared<Times>();  // shared with what is queued
  std::size_t num_marks_ = 0;
  std::vector<std::int64_t> resolved_;
};

}  // namespace flex
