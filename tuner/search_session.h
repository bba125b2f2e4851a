#pragma once

#include <map>
#include <optional>
#include <utility>

#include "tuner/search.h"

namespace flex {

/// A pair takes the default plan's place if it is faster by more than so many standard deviations of their
/// difference: otherwise noise alone would pick, of many candidates, one that is slower.
inline constexpr double kLeastSavingSpreads = 1.5;

/// One search while it runs: evaluates each candidate at most once, keeps account of the budget, and knows
/// the best so far.
class SearchSession {
 public:
  /// Evaluates the default plan in all passes.
  SearchSession(const SearchProblem& problem, Evaluator& evaluator, const SearchBudget& budget);

  /// In microseconds; infinite for a plan that cannot run. Nothing if the budget does not allow it: the
  /// search is to end, and counts as cut short.
  std::optional<double> evaluate(const Plan& plan, Pass pass);
  /// The same in all passes, one after the other: their sum.
  std::optional<double> evaluate(const TimedPlanPair& pair);
  /// Every plan of `plans`; false if the budget did not allow them all.
  bool evaluate_all(std::span<const Plan> plans);

  [[nodiscard]] const SearchProblem& problem() const { return problem_; }
  [[nodiscard]] std::span<const EvaluatedPlan> evaluations() const { return evaluations_; }
  [[nodiscard]] bool is_evaluated(const Plan& plan, Pass pass) const { return index_.contains({plan, pass}); }
  /// What the budget still allows, time left out.
  [[nodiscard]] std::int64_t evaluations_left() const;
  /// Of the evaluations; nothing if no pair ran.
  [[nodiscard]] std::optional<TimedPlanPair> best() const;
  /// best() among the pairs that can pair with `plan`.
  [[nodiscard]] std::optional<TimedPlanPair> best_with(const Plan& plan) const;

  /// The result, by the evaluations' word. @throws InputError if no pair ran.
  [[nodiscard]] SearchResult finish() const;

 private:
  [[nodiscard]] bool is_over() const;
  /// By more than kLeastSavingSpreads.
  [[nodiscard]] bool beats_default(const TimedPlanPair& pair, double default_us) const;
  double record(const Plan& plan, Pass pass);

  const SearchProblem& problem_;
  Evaluator& evaluator_;
  std::int64_t max_evaluations_;
  double end_s_;
  bool cut_ = false;
  std::vector<EvaluatedPlan> evaluations_;
  std::map<std::pair<Plan, Pass>, std::size_t> index_;
};

}  // namespace flex
