#include "tuner/derive_decision.h"

#include <map>
#include <tuple>

namespace flex {
namespace {

// Trials that can be compared: the latest of each plan.
struct Group {
  std::map<Plan, const Trial*> latest;

  void add(const Trial& trial) {
    const auto [at, is_first] = latest.try_emplace(trial.plan, &trial);
    if (!is_first && trial.measured_at_ns >= at->second->measured_at_ns) at->second = &trial;
  }
};

using GroupKey = std::tuple<TrialSource, std::int64_t, std::int64_t>;  // source, T, C

const Group* best_group(const std::map<GroupKey, Group>& groups, const Plan& baseline) {
  const auto rank = [&](const auto& entry) {
    return std::tuple(std::get<0>(entry.first), entry.second.latest.size(),
                      entry.second.latest.at(baseline)->measured_at_ns);
  };
  const std::pair<const GroupKey, Group>* best = nullptr;
  for (const auto& entry : groups) {
    if (!entry.second.latest.contains(baseline)) continue;
    if (best == nullptr || rank(entry) > rank(*best)) best = &entry;
  }
  return best == nullptr ? nullptr : &best->second;
}

}  // namespace

std::optional<Decision> derive_decision(const TuningKey& key, std::span<const Trial> trials,
                                        const SearchSummary& search, std::int64_t now_ns) {
  const Plan baseline = default_plan(key.one);
  std::map<GroupKey, Group> groups;
  for (const Trial& trial : trials) {
    if (trial.outcome != TrialOutcome::kCorrect) continue;
    groups[{trial.source, trial.num_tokens, trial.capacity}].add(trial);
  }
  const Group* group = best_group(groups, baseline);
  if (group == nullptr) return std::nullopt;

  const Trial* of_default = group->latest.at(baseline);
  const Trial* best = of_default;
  for (const auto& [plan, trial] : group->latest) {
    if (trial->median_ns < best->median_ns) best = trial;
  }
  if (search.plan) {
    const auto chosen = group->latest.find(*search.plan);
    if (chosen == group->latest.end()) return std::nullopt;
    best = chosen->second;
  }
  return Decision{.plan = best->plan,
                  .source = best->source,
                  .is_complete = search.is_complete,
                  .strategy = search.strategy,
                  .median_ns = best->median_ns,
                  .default_median_ns = of_default->median_ns,
                  .plan_trial = trial_id(key, *best),
                  .default_trial = trial_id(key, *of_default),
                  .num_trials = static_cast<std::int64_t>(group->latest.size()),
                  .decided_at_ns = now_ns};
}

bool may_replace(const Decision& present, const Decision& next) {
  if (present.source != next.source) return next.source > present.source;
  return next.is_complete || !present.is_complete;
}

}  // namespace flex
