#pragma once

#include "tuner/search.h"

namespace flex {

/// How a model guides a search.
struct ModelGuidance {
  /// How far the model may be off, as the sigma of the logarithm of each of its parameters.
  double parameter_error = 0.15;
  /// The search ends when no pair that was not evaluated promises to save more than this, as a fraction of
  /// the best pair's time; promised is the expected saving over all machines that the model and the
  /// evaluations so far allow.
  double least_gain = 0.001;
};

/// Simulates all candidates and evaluates those that may win. Each evaluation corrects the model: what it
/// finds is shared out to the cost parameters that could have caused it, and with them to all plans that they
/// matter for. Between plans that were evaluated it chooses by model and evaluations together, so that
/// noise does not decide between plans that the model tells apart.
///
/// Spends at most max(6, a tenth of the candidates) evaluations, the default plan's among them, or the budget
/// if that is less. Complete: no other pair of plans can be expected to win.
class ModelGuidedSearch final : public SearchStrategy {
 public:
  /// `costs`, of the problems' cluster, must live as long.
  explicit ModelGuidedSearch(const CostModel& costs, const ModelGuidance& guidance = {})
      : costs_(costs), guidance_(guidance) {}

  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget, std::uint64_t seed) const override;

 private:
  const CostModel& costs_;
  ModelGuidance guidance_;
};

}  // namespace flex
