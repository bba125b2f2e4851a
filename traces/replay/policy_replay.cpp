#include "traces/replay/policy_replay.h"

#include <algorithm>
#include <cmath>

#include "base/philox.h"

namespace flex {
namespace {

// A pass that ran took at least one: zero would say that it did not run.
std::int64_t observed_ns(double us, double factor) {
  return std::max<std::int64_t>(std::llround(us * factor * 1e3), 1);
}

}  // namespace

double ObservationNoise::factor(std::size_t iteration, Pass pass) const {
  if (sigma == 0) return 1;
  const auto place = (static_cast<std::uint64_t>(iteration) << 1) | static_cast<std::uint64_t>(pass);
  return std::exp(sigma * PhiloxStream(seed, splitmix64(place)).normal());
}

PlanPair PolicyCalls::choose(std::int32_t layer, const LayerLoad& load) {
  Pending& last = pending_[static_cast<std::size_t>(layer)];
  if (last.load != nullptr) policy_.observe(layer, *last.load, last.plans, last.durations);
  last = {};
  return policy_.choose(layer, load);
}

void PolicyCalls::ran(std::int32_t layer, const LayerLoad& load, const PlanPair& plans,
                      const PassDurations& durations) {
  pending_[static_cast<std::size_t>(layer)] = {.load = &load, .plans = plans, .durations = durations};
}

std::vector<ReplayedIteration> replay_policy(const ScenarioTrace& trace, PlanPolicy& policy,
                                             OutcomeTable& table, LoadSimulator& simulator,
                                             const ObservationNoise& noise,
                                             const std::function<void(std::size_t iteration)>& before) {
  PolicyCalls calls(policy, trace.header.layers.size());
  std::vector<ReplayedIteration> replayed;
  replayed.reserve(trace.iterations.size());
  for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
    const ReplayIteration& iteration = trace.iterations[i];
    if (before) before(i);
    const LayerLoad& load = table.load(iteration.load).load;
    ReplayedIteration one{.plans = calls.choose(iteration.layer, load)};
    one.forward = table.outcome(iteration.load, one.plans.forward, Pass::kForward, simulator);
    PassDurations observed{.forward_ns =
                               observed_ns(one.forward.duration_us, noise.factor(i, Pass::kForward))};
    if (iteration.has_backward) {
      one.backward = table.outcome(iteration.load, one.plans.backward, Pass::kBackward, simulator);
      observed.backward_ns = observed_ns(one.backward.duration_us, noise.factor(i, Pass::kBackward));
    }
    calls.ran(iteration.layer, load, one.plans, observed);
    replayed.push_back(one);
  }
  return replayed;
}

}  // namespace flex
