#include "traces/replay/timeline.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

const PolicyResult& chosen_policy(const TimelineChoice& choice, std::span<const PolicyResult> results) {
  const ReplayPolicy wanted = choice.policy.value_or(ReplayPolicy{.policy = {.kind = PolicyKind::kOnline}});
  const auto found = std::ranges::find(results, wanted, &PolicyResult::policy);
  if (found != results.end()) return *found;
  require(!choice.policy, "a timeline of '{}' needs that policy to run: name it, too", to_string(wanted));
  return results.back();
}

/// The slowest of those that were chosen.
std::optional<std::size_t> chosen_iteration(const TimelineChoice& choice, const ScenarioTrace& trace,
                                            const PolicyResult& result) {
  std::optional<std::size_t> chosen;
  for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
    const ReplayIteration& one = trace.iterations[i];
    if (choice.step.value_or(one.step) != one.step || choice.layer.value_or(one.layer) != one.layer) continue;
    if (!chosen || result.iteration_us[i] > result.iteration_us[*chosen]) chosen = i;
  }
  require(chosen || trace.iterations.empty(), "a timeline of step {}, layer {}: the trace has none",
          choice.step ? std::to_string(*choice.step) : "any",
          choice.layer ? std::to_string(*choice.layer) : "any");
  return chosen;
}

std::vector<int> shown_ranks(int num_ranks) {
  const int shown = std::min(num_ranks, Timeline::kMaxRanks);
  std::vector<int> ranks;
  for (std::int64_t i = 0; i < shown; ++i) ranks.push_back(static_cast<int>(i * num_ranks / shown));
  return ranks;
}

void add_spans(Timeline& timeline, const Simulation& simulation, Pass pass) {
  // A rank that stands for all in one pass is shown as each of them in the other's.
  for (const int rank : timeline.ranks) {
    const std::span<const OperationTimes> times = simulation.times_of(simulation.folded() ? 0 : rank);
    for (std::size_t i = 0; i < times.size(); ++i) {
      const Operation& operation = simulation.operations[i].operation;
      TimelineSpan span{.rank = rank,
                        .stream = operation.stream,
                        .pass = pass,
                        .name = label(operation),
                        .start_us = timeline.total_us + times[i].begin_us,
                        .end_us = timeline.total_us + times[i].end_us};
      if (operation.num_chunks > 1) span.chunk = operation.chunk;
      timeline.spans.push_back(std::move(span));
    }
  }
  timeline.total_us += simulation.total_us;
}

}  // namespace

std::optional<Timeline> make_timeline(const TimelineChoice& choice, const ScenarioTrace& trace,
                                      std::span<const PolicyResult> results, LoadSimulator& simulator) {
  const PolicyResult& result = chosen_policy(choice, results);
  const auto index = chosen_iteration(choice, trace, result);
  if (!index) return std::nullopt;
  const ReplayIteration& iteration = trace.iterations[*index];
  const ReplayLoad& load = trace.loads[static_cast<std::size_t>(iteration.load)];
  Timeline timeline{.policy = result.policy,
                    .step = iteration.step,
                    .layer = iteration.layer,
                    .plans = result.plans[static_cast<std::size_t>(result.iteration_plan[*index])].plans,
                    .world = load.load.workload.world};
  std::vector<Simulation> passes = {simulator.simulate(load, timeline.plans.forward, Pass::kForward)};
  if (iteration.has_backward) {
    passes.push_back(simulator.simulate(load, timeline.plans.backward, Pass::kBackward));
  }
  const bool is_folded = std::ranges::all_of(passes, &Simulation::folded);
  timeline.ranks = shown_ranks(is_folded ? 1 : timeline.world);
  add_spans(timeline, passes.front(), Pass::kForward);
  if (iteration.has_backward) add_spans(timeline, passes.back(), Pass::kBackward);
  return timeline;
}

}  // namespace flex
