#pragma once

#include <functional>
#include <span>
#include <vector>

#include "tuner/tuning_target.h"

namespace flex {

/// How a layer is tuned.
struct TuneSettings {
  std::vector<StrategyKind> strategies = {StrategyKind::kModel};  ///< one after the other
  SearchBudget budget;                                            ///< of each strategy
  std::uint64_t seed = 1;
  TrialConditions conditions;
  /// Told every evaluation that a strategy asked for, whether it was known or not. Null: nobody is.
  std::function<void(StrategyKind, const EvaluatedPlan&)> on_evaluation;
};

/// What one strategy found.
struct StrategyResult {
  StrategyKind strategy = StrategyKind::kModel;
  SearchResult search;
  std::int64_t num_new = 0;  ///< of its evaluations, those that nothing knew before
};

/// What tuning one layer gave.
struct TuneResult {
  Passes passes = Passes::kBoth;
  std::vector<StrategyResult> strategies;  ///< in the order of the settings
  /// All evaluations, those that were known before too, each plan and pass once.
  std::vector<TimedPlan> evaluated;

  /// Of the strategies' results the fastest by the evaluations; of equally fast ones a complete one, then the
  /// first.
  [[nodiscard]] const StrategyResult& best() const;
};

/// Searches the plans of a target with each strategy. What is known is not evaluated again: neither what one
/// strategy had evaluated, nor what `known` says, which a run that was stopped left in the cache. Evaluations
/// go into the cache as they are made, decisions at the end. Collective where the evaluator is.
/// @param known equal on all ranks; known_evaluations() of rank 0.
/// @param cache null on all ranks but rank 0, and where nothing is to be kept.
/// @param costs guides StrategyKind::kModel.
[[nodiscard]] TuneResult tune(const TuningTarget& target, Evaluator& evaluator,
                              std::span<const EvaluatedPlan> known, TuningCache* cache,
                              const CostModel& costs, const TuneSettings& settings);

}  // namespace flex
