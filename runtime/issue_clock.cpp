#include "runtime/issue_clock.h"

#include "profiler/mark_source.h"

namespace flex {

void IssueClock::start() {
  issue_ns_.clear();
  last_ns_ = steady_now_ns();
}

void IssueClock::before(const Schedule& schedule, std::size_t index, Stream& /*stream*/) {
  if (schedule.operations[index].stream == StreamKind::kHost) issue_ns_.push_back(steady_now_ns() - last_ns_);
}

void IssueClock::after(const Schedule& schedule, std::size_t index, Stream& /*stream*/) {
  const std::int64_t now_ns = steady_now_ns();
  if (schedule.operations[index].stream != StreamKind::kHost) issue_ns_.push_back(now_ns - last_ns_);
  last_ns_ = now_ns;
}

}  // namespace flex
