#include "costmodel/critical_path.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace flex {
namespace {

using Step = CriticalPath::Step;

const OperationTimes& times_at(const Simulation& s, Step step) {
  return s.times[s.at(step.rank, static_cast<std::size_t>(step.operation))];
}

std::optional<Step> last_step(const Simulation& s) {
  const auto operations = static_cast<std::int32_t>(s.operations.size());
  for (std::int32_t rank = 0; rank < s.num_ranks; ++rank) {
    for (std::int32_t i = operations - 1; i >= 0; --i) {
      if (times_at(s, {rank, i}).end_us == s.total_us) return Step{rank, i};
    }
  }
  return std::nullopt;
}

// The last of the operations that `step` comes after. It made `step` ready, unless the host had still to
// queue it.
std::optional<Step> step_before(const Simulation& s, Step step) {
  const SimulatedOperation& operation = s.operations[static_cast<std::size_t>(step.operation)];
  const auto end_us = [&](std::int32_t index) {
    return index < 0 ? -1 : times_at(s, {step.rank, index}).end_us;
  };
  std::int32_t last = operation.after[static_cast<std::size_t>(operation.operation.stream)];
  for (const std::int32_t index : operation.after) {
    if (end_us(index) > end_us(last)) last = index;
  }
  if (last < 0) return std::nullopt;
  return Step{step.rank, last};
}

}  // namespace

void find_critical_path_into(CriticalPath& path, const Simulation& s) {
  path.steps.clear();
  path.kind_us.fill(0);
  path.origin_us.fill(0);
  path.issue_us = 0;
  std::array<double, kNumOperationKinds> kind_error_us{};
  double passes_error_us = 0;
  for (std::optional<Step> step = last_step(s), before; step.has_value(); step = before) {
    step->rank = times_at(s, *step).last_rank;
    path.steps.push_back(*step);
    const OperationTimes& times = times_at(s, *step);
    const auto index = static_cast<std::size_t>(step->operation);
    const OperationCost& cost = s.costs[s.at(step->rank, index)];
    const auto kind = static_cast<std::size_t>(s.operations[index].operation.kind);
    const double us = times.end_us - times.begin_us;
    path.kind_us[kind] += us;
    path.origin_us[static_cast<std::size_t>(cost.origin)] += us;
    kind_error_us[kind] += us * cost.relative_error;
    passes_error_us += us * s.pass_errors[static_cast<std::size_t>(s.operations[index].pass)];
    before = step_before(s, *step);
    path.issue_us += times.ready_us - (before ? times_at(s, *before).end_us : 0);
  }
  std::ranges::reverse(path.steps);
  double squares = passes_error_us * passes_error_us;
  for (const double error_us : kind_error_us) squares += error_us * error_us;
  path.error_us = std::sqrt(squares);
}

CriticalPath critical_path(const Simulation& simulation) {
  CriticalPath path;
  find_critical_path_into(path, simulation);
  return path;
}

}  // namespace flex
