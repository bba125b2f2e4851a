#include "traces/replay/hindsight.h"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "costmodel/plan_space.h"

namespace flex {
namespace {

constexpr double kMayNotRun = std::numeric_limits<double>::infinity();

/// Durations at one load by place among all plans, times the iterations that have them.
struct WeightedLoad {
  std::array<std::vector<double>, 2> us;  // by pass and plan
  double default_us = 0;                  // of both passes
};

class StaticSums {
 public:
  StaticSums(const ScenarioTrace& trace, const DurationTable& durations, const PolicyContext& context)
      : counts_(trace.loads.size()) {
    for (const ReplayIteration& iteration : trace.iterations) {
      std::array<double, 2>& counts = counts_[static_cast<std::size_t>(iteration.load)];
      counts[0] += 1;
      counts[1] += iteration.has_backward ? 1 : 0;
    }
    std::set<Plan> plans;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      for (const TimedPlan& one : durations.timed(static_cast<std::int32_t>(i))) plans.insert(one.plan);
    }
    plans_.assign(plans.begin(), plans.end());
    for (std::size_t i = 0; i < counts_.size(); ++i) weigh(i, trace.loads[i].load, durations, context);
  }

  [[nodiscard]] const std::vector<Plan>& plans() const { return plans_; }

  /// Of all iterations, with plans of these places.
  [[nodiscard]] double total_us(std::size_t forward, std::size_t backward) const {
    double total = 0;
    for (const WeightedLoad& load : loads_) {
      const double us = load.us[0][forward] + load.us[1][backward];
      total += us < kMayNotRun ? us : load.default_us;
    }
    return total;
  }

 private:
  void weigh(std::size_t index, const LayerLoad& load, const DurationTable& durations,
             const PolicyContext& context) {
    WeightedLoad weighted;
    weighted.us.fill(std::vector<double>(plans_.size(), kMayNotRun));
    // Without backward passes, every plan that may run takes no time in them.
    for (const TimedPlan& one : durations.timed(static_cast<std::int32_t>(index))) {
      const auto place =
          static_cast<std::size_t>(std::ranges::lower_bound(plans_, one.plan) - plans_.begin());
      const auto pass = static_cast<std::size_t>(one.pass);
      const double us = counts_[index][pass] * one.duration_us;
      if (one.plan == kDefaultPlan) weighted.default_us += us;
      if (!context.allows(load, one.plan)) continue;
      weighted.us[pass][place] = us;
      if (context.passes == Passes::kForward) weighted.us[1][place] = 0;
    }
    loads_.push_back(std::move(weighted));
  }

  std::vector<std::array<double, 2>> counts_;  // iterations by load and pass
  std::vector<Plan> plans_;
  std::vector<WeightedLoad> loads_;
};

}  // namespace

std::vector<Plan> plans_at(const PolicyContext& context, const LayerLoad& load) {
  std::vector<Plan> plans = PlanSpace(load.workload, context.cluster).plans();
  std::erase_if(plans, [&](const Plan& plan) { return plan != kDefaultPlan && !context.allows(load, plan); });
  return plans;
}

PlanPair best_static_pair(const ScenarioTrace& trace, const DurationTable& durations,
                          const PolicyContext& context) {
  const StaticSums sums(trace, durations, context);
  const std::vector<Plan>& plans = sums.plans();
  const auto default_place =
      static_cast<std::size_t>(std::ranges::lower_bound(plans, kDefaultPlan) - plans.begin());
  PlanPair best{};
  double best_us = sums.total_us(default_place, default_place);
  for (std::size_t forward = 0; forward < plans.size(); ++forward) {
    for (std::size_t backward = 0; backward < plans.size(); ++backward) {
      if (!can_pair(plans[forward], plans[backward])) continue;
      if (context.passes == Passes::kForward && forward != backward) continue;
      const double us = sums.total_us(forward, backward);
      if (us >= best_us) continue;
      best = {.forward = plans[forward], .backward = plans[backward]};
      best_us = us;
    }
  }
  return best;
}

}  // namespace flex
