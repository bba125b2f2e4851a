#include "traces/replay/replay_policy.h"

#include <algorithm>
#include <stdexcept>

#include "base/require.h"
#include "costmodel/plan_space.h"

namespace flex {
namespace {

constexpr std::string_view kBestStaticName = "best-static";
constexpr std::string_view kRecordedName = "recorded";

}  // namespace

ReplayPolicy parse_replay_policy(std::string_view text) {
  if (text == kBestStaticName) return {.kind = ReplayPolicy::Kind::kBestStatic};
  if (text == kRecordedName) return {.kind = ReplayPolicy::Kind::kRecorded};
  try {
    return {.policy = parse_policy(text)};
  } catch (const InputError& error) {
    if (text.starts_with("static")) throw;
    fail("{}; a replay also has {} and {}", error.what(), kBestStaticName, kRecordedName);
  }
}

std::string to_string(const ReplayPolicy& policy) {
  switch (policy.kind) {
    case ReplayPolicy::Kind::kBestStatic:
      return std::string(kBestStaticName);
    case ReplayPolicy::Kind::kRecorded:
      return std::string(kRecordedName);
    case ReplayPolicy::Kind::kPolicy:
      break;
  }
  return to_string(policy.policy);
}

std::vector<ReplayPolicy> all_replay_policies(const IterationTrace& trace) {
  std::vector<ReplayPolicy> policies = {kDefaultPolicy, {.kind = ReplayPolicy::Kind::kBestStatic}};
  for (const PolicyKind kind :
       {PolicyKind::kDictionary, PolicyKind::kModel, PolicyKind::kOnline, PolicyKind::kOracle}) {
    policies.push_back({.policy = {.kind = kind}});
  }
  const bool has_plans = std::ranges::all_of(
      trace.iterations, [](const TraceIteration& one) { return one.plans().has_value(); });
  if (has_plans) policies.push_back({.kind = ReplayPolicy::Kind::kRecorded});
  return policies;
}

PlanPair RecordedPolicy::choose(std::int64_t /*layer*/, const LayerLoad& load) {
  if (next_ >= iterations_.size()) throw std::out_of_range("the recorded plans are all used");
  const std::optional<PlanPair>& plans = iterations_[next_++].recorded;
  const auto runs = [&](const Plan& plan) { return is_legal(plan, load.workload, cluster_); };
  return plans && runs(plans->forward) && runs(plans->backward) ? *plans : PlanPair{};
}

}  // namespace flex
