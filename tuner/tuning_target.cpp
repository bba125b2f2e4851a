#include "tuner/tuning_target.h"

#include <algorithm>
#include <set>

namespace flex {
namespace {

Trial to_trial(const EvaluatedPlan& evaluated, const Workload& workload, const TrialConditions& conditions) {
  Trial trial{.plan = evaluated.plan,
              .outcome = evaluated.evaluation.ran() ? TrialOutcome::kCorrect : TrialOutcome::kRuntime,
              .source = conditions.source,
              .origin = conditions.origin,
              .num_tokens = workload.num_tokens,
              .capacity = workload.capacity,
              .num_warmup = conditions.num_warmup,
              .num_repeats = 1,
              .samples_ns = evaluated.evaluation.samples_ns,
              .measured_at_ns = now_ns()};
  summarize(trial);
  return trial;
}

EvaluationSource evaluation_source(TrialSource source) {
  return source == TrialSource::kSimulated ? EvaluationSource::kSimulated : EvaluationSource::kMeasured;
}

}  // namespace

TuningKey TuningTarget::key(Pass pass, std::int32_t given_degree) const {
  Workload workload = problem.workload;
  workload.pass = pass;
  return {environment, layer_of(workload), case_of(workload, max_over_mean, given_degree)};
}

TuningKey TuningTarget::key_of(const Plan& plan, Pass pass) const {
  return key(pass, pass == Pass::kForward ? kFreeDegree : plan.parallel_degree);
}

std::vector<EvaluatedPlan> known_evaluations(TuningCache& cache, const TuningTarget& target,
                                             TrialSource source) {
  std::vector<EvaluatedPlan> known;
  const Workload& workload = target.problem.workload;
  const auto add = [&](Pass pass, std::int32_t given_degree) {
    for (const Trial& trial : cache.trials(target.key(pass, given_degree))) {  // from the oldest on
      const bool fits = trial.source == source && trial.num_tokens == workload.num_tokens &&
                        trial.capacity == workload.capacity && trial.outcome == TrialOutcome::kCorrect;
      if (!fits || !std::ranges::binary_search(target.problem.plans, trial.plan)) continue;
      std::erase_if(known,
                    [&](const EvaluatedPlan& one) { return one.plan == trial.plan && one.pass == pass; });
      known.push_back({trial.plan, pass, evaluation_of(trial.samples_ns, evaluation_source(source))});
    }
  };
  for (const Pass pass : passes_of(target.problem.passes)) {
    if (pass == Pass::kForward) {
      add(pass, kFreeDegree);
      continue;
    }
    std::set<std::int32_t> degrees;
    for (const Plan& plan : target.problem.plans) degrees.insert(plan.parallel_degree);
    for (const std::int32_t degree : degrees) add(pass, degree);
  }
  return known;
}

void record_evaluation(TuningCache& cache, const TuningTarget& target, const EvaluatedPlan& evaluated,
                       const TrialConditions& conditions) {
  const Trial trial = to_trial(evaluated, target.problem.workload, conditions);
  cache.record(target.key_of(evaluated.plan, evaluated.pass), std::span(&trial, 1));
}

std::optional<Plan> missing_baseline(const SearchProblem& problem, const SearchResult& result) {
  if (problem.passes == Passes::kForward) return std::nullopt;
  const Plan baseline{.parallel_degree = result.best.backward.parallel_degree};
  const bool is_known = std::ranges::any_of(result.evaluations, [&](const EvaluatedPlan& one) {
    return one.plan == baseline && one.pass == Pass::kBackward;
  });
  if (is_known || !std::ranges::binary_search(problem.plans, baseline)) return std::nullopt;
  return baseline;
}

void record_decisions(TuningCache& cache, const TuningTarget& target, const SearchResult& result,
                      const std::string& strategy) {
  for (const Pass pass : passes_of(target.problem.passes)) {
    const Plan& plan = result.best.of(pass);
    cache.record(target.key_of(plan, pass), {},
                 {.strategy = strategy, .is_complete = result.complete, .plan = plan});
  }
}

}  // namespace flex
