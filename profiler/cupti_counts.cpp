#include "profiler/cupti_counts.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace flex {

CuptiCounts& CuptiCounts::operator+=(const CuptiCounts& other) {
  activities += other.activities;
  correlations += other.correlations;
  calls += other.calls;
  overheads += other.overheads;
  unknown += other.unknown;
  too_short += other.too_short;
  without_times += other.without_times;
  lost += other.lost;
  unattributed += other.unattributed;
  contradicted += other.contradicted;
  return *this;
}

std::string to_string(const CuptiCounts& counts) {
  std::string text = fmt::format("{} activities", counts.activities);
  const auto add = [&](std::int64_t count, std::string_view what) {
    if (count != 0) fmt::format_to(std::back_inserter(text), ", {} {}", count, what);
  };
  add(counts.lost, "lost");
  add(counts.without_times, "without times");
  add(counts.too_short, "cut off");
  add(counts.unknown, "of unknown kinds");
  add(counts.unattributed, "of no operation");
  add(counts.contradicted, "contradicted");
  return text;
}

}  // namespace flex
