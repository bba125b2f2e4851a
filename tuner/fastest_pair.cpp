#include "tuner/fastest_pair.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

namespace flex {

std::span<const Pass> passes_of(Passes passes) {
  static constexpr std::array kAll = {Pass::kForward, Pass::kBackward};
  switch (passes) {
    case Passes::kForward:
      return std::span(kAll).first(1);
    case Passes::kBackward:
      return std::span(kAll).last(1);
    case Passes::kBoth:
      break;
  }
  return kAll;
}

std::vector<TimedPlanPair> fastest_pairs(std::span<const TimedPlan> timed, Passes passes) {
  struct Choice {
    Plan plan;
    double duration_us = std::numeric_limits<double>::infinity();
    void take(const TimedPlan& other) {
      if (std::tie(other.duration_us, other.plan) < std::tie(duration_us, plan)) {
        *this = {other.plan, other.duration_us};
      }
    }
  };
  std::map<std::pair<std::int32_t, ExpertKernel>, std::array<Choice, 2>> groups;
  for (const TimedPlan& one : timed) {
    groups[{one.plan.parallel_degree, one.plan.expert_kernel}][static_cast<std::size_t>(one.pass)].take(one);
  }
  std::vector<TimedPlanPair> pairs;
  for (auto& [key, choices] : groups) {
    auto& [forward, backward] = choices;
    if (passes == Passes::kForward) backward = {forward.plan, 0};
    if (passes == Passes::kBackward) forward = {backward.plan, 0};
    const double total_us = forward.duration_us + backward.duration_us;
    if (std::isfinite(total_us)) pairs.push_back({forward.plan, backward.plan, total_us});
  }
  return pairs;
}

std::optional<TimedPlanPair> fastest_pair(std::span<const TimedPlan> timed, Passes passes) {
  std::optional<TimedPlanPair> best;
  for (const TimedPlanPair& pair : fastest_pairs(timed, passes)) {
    const bool is_tie = best && pair.total_us == best->total_us && can_pair(pair.forward, kDefaultPlan);
    if (!best || pair.total_us < best->total_us || is_tie) best = pair;
  }
  return best;
}

double total_us(std::span<const TimedPlan> timed, const PlanPair& pair, Passes passes) {
  double total = 0;
  for (const Pass pass : passes_of(passes)) {
    const auto found = std::ranges::find_if(
        timed, [&](const TimedPlan& one) { return one.plan == pair.of(pass) && one.pass == pass; });
    if (found == timed.end()) return std::numeric_limits<double>::infinity();
    total += found->duration_us;
  }
  return total;
}

std::optional<TimedPlanPair> fastest_common_pair(std::span<const std::vector<TimedPlan>> loads,
                                                 Passes passes) {
  std::map<std::pair<Plan, Pass>, std::pair<std::size_t, double>> sums;  // loads, and their time
  for (const std::vector<TimedPlan>& load : loads) {
    std::map<std::pair<Plan, Pass>, double> durations_us;
    for (const TimedPlan& one : load) durations_us.insert_or_assign({one.plan, one.pass}, one.duration_us);
    for (const auto& [key, duration_us] : durations_us) {
      auto& [num_loads, total_us] = sums[key];
      ++num_loads;
      total_us += duration_us;
    }
  }
  std::vector<TimedPlan> common;
  for (const auto& [key, sum] : sums) {
    if (sum.first == loads.size()) common.push_back({key.first, key.second, sum.second});
  }
  return fastest_pair(common, passes);
}

}  // namespace flex
