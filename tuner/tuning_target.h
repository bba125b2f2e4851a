#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tuner/cache.h"
#include "tuner/search.h"

namespace flex {

/// What is tuned, and where: a layer at one load in one environment, with its place in the cache.
struct TuningTarget {
  SearchProblem problem;
  Environment environment;
  double max_over_mean = 1;  ///< see case_of()

  /// The case of a pass. @param given_degree r of the forward plan, for a backward pass; a forward pass
  /// chooses it.
  [[nodiscard]] TuningKey key(Pass pass, std::int32_t given_degree = kFreeDegree) const;
  /// The case that an evaluation of `plan` belongs to.
  [[nodiscard]] TuningKey key_of(const Plan& plan, Pass pass) const;
};

/// The conditions of an evaluation, as the cache keeps them.
struct TrialConditions {
  TrialSource source = TrialSource::kMeasured;
  std::string origin;           ///< who asked: a command
  std::int64_t num_warmup = 0;  ///< passes before the first sample
};

/// What the cache knows of a target's plans at just its T and C, from `source`; of each plan the latest.
[[nodiscard]] std::vector<EvaluatedPlan> known_evaluations(TuningCache& cache, const TuningTarget& target,
                                                           TrialSource source);

/// Keeps one evaluation, at once: a run that is killed later does not lose it.
void record_evaluation(TuningCache& cache, const TuningTarget& target, const EvaluatedPlan& evaluated,
                       const TrialConditions& conditions);

/// The plan whose evaluation the case of the search's backward plan lacks: its default plan, r of the forward
/// plan with d1 linear, without which nothing says what the plan gains, so that the case has no decision.
/// Nothing if the search evaluated it, or had no backward passes.
[[nodiscard]] std::optional<Plan> missing_baseline(const SearchProblem& problem, const SearchResult& result);

/// Keeps what a search decided, in the cases of its passes. Its evaluations were recorded before.
void record_decisions(TuningCache& cache, const TuningTarget& target, const SearchResult& result,
                      const std::string& strategy);

}  // namespace flex
