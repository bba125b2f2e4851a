#include "tuner/landscape.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"

namespace flex {

Landscape::Landscape(const SearchProblem& problem,
                     const std::function<double(const Plan&, Pass)>& duration_us)
    : passes_(problem.passes) {
  std::vector<TimedPlan> timed;
  for (const Plan& plan : problem.plans) {
    for (const Pass pass : passes_of(passes_)) {
      timed.push_back({plan, pass, duration_us(plan, pass)});
      durations_us_[{plan, pass}] = timed.back().duration_us;
    }
  }
  const std::optional<TimedPlanPair> best = fastest_pair(timed, passes_);
  require(best.has_value(), "none of {} plan(s) runs: there is no best one", problem.plans.size());
  best_ = *best;
  for (const Plan& forward : problem.plans) {
    for (const Plan& backward : problem.plans) {
      const bool is_pair = passes_ == Passes::kBoth ? can_pair(forward, backward) : forward == backward;
      const double one = is_pair ? regret({forward, backward}) : std::numeric_limits<double>::infinity();
      if (std::isfinite(one)) regrets_.push_back(one);
    }
  }
  std::ranges::sort(regrets_);
}

double Landscape::total_us(const TimedPlanPair& pair) const {
  double sum_us = 0;
  for (const Pass pass : passes_of(passes_)) sum_us += durations_us_.at({pair.of(pass), pass});
  return sum_us;
}

double Landscape::random_regret(std::int64_t num_draws) const {
  const auto num_pairs = static_cast<std::int64_t>(regrets_.size());
  const double at_default = regret({kDefaultPlan, kDefaultPlan});
  if (num_draws >= num_pairs) return 0;
  // The probability that the first i pairs, in ascending order, were all missed.
  double missed = 1;
  double expected = 0;
  for (std::int64_t i = 0; i < num_pairs; ++i) {
    const double hit = static_cast<double>(num_draws) / static_cast<double>(num_pairs - i);
    expected += missed * std::min(hit, 1.0) * std::min(regrets_[static_cast<std::size_t>(i)], at_default);
    missed *= 1 - std::min(hit, 1.0);
  }
  return expected + missed * at_default;
}

}  // namespace flex
