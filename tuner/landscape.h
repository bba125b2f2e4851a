#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "tuner/search.h"

namespace flex {

/// The true durations of all candidates of a problem: what searches are judged by.
class Landscape {
 public:
  /// `duration_us`: of one pass with one plan; infinite for a plan that does not run.
  /// @throws InputError if no pair of plans runs.
  Landscape(const SearchProblem& problem, const std::function<double(const Plan&, Pass)>& duration_us);

  /// The fastest pair: what the oracle takes.
  [[nodiscard]] const TimedPlanPair& best() const { return best_; }
  /// @throws std::out_of_range for plans that are no candidates.
  [[nodiscard]] double total_us(const TimedPlanPair& pair) const;
  /// How much longer than the best pair a pair takes, as a fraction of the best pair's time.
  [[nodiscard]] double regret(const TimedPlanPair& pair) const { return total_us(pair) / best_.total_us - 1; }

  /// The calculated baseline of random choice: the expected regret of the best of `num_draws` different
  /// pairs, drawn evenly from all that run, and the default plan. No noise deceives it.
  [[nodiscard]] double random_regret(std::int64_t num_draws) const;

 private:
  std::map<std::pair<Plan, Pass>, double> durations_us_;
  Passes passes_;
  TimedPlanPair best_;
  std::vector<double> regrets_;  // of all pairs that run, ascending
};

}  // namespace flex
