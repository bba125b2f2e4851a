#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "tuner/evaluator.h"
#include "tuner/fastest_pair.h"

namespace flex {

/// What plans are searched for.
struct SearchProblem {
  Workload workload;  ///< of one layer; its pass does not matter
  Cluster cluster;
  Passes passes = Passes::kBoth;
  /// Candidates, the same for each pass: legal, in ascending order, kDefaultPlan among them.
  std::vector<Plan> plans;

  /// Of pairs of plan and pass: what an exhaustive search evaluates.
  [[nodiscard]] std::int64_t num_candidates() const {
    return static_cast<std::int64_t>(plans.size() * passes_of(passes).size());
  }
};

/// With all plans of PlanSpace.
[[nodiscard]] SearchProblem search_problem(const Workload& workload, const Cluster& cluster,
                                           Passes passes = Passes::kBoth);

/// When a search ends, whatever it still wanted; the first limit that is reached counts. The default plan is
/// evaluated in all passes nevertheless.
struct SearchBudget {
  std::int64_t max_evaluations = std::numeric_limits<std::int64_t>::max();
  double max_fraction = 1;  ///< evaluations, of SearchProblem::num_candidates(); rounded down
  /// No evaluation is begun later than this, by Evaluator::elapsed_s() since the search began.
  double max_seconds = std::numeric_limits<double>::infinity();
};

/// The acceptance budget of model-guided search: 10% of the candidates, or 6 if those are less.
[[nodiscard]] SearchBudget tenth_of(const SearchProblem& problem);

/// One evaluation of a search.
struct EvaluatedPlan {
  Plan plan;
  Pass pass = Pass::kForward;
  Evaluation evaluation;
};

/// What a search found. A plain value.
struct SearchResult {
  /// Of plans that were evaluated. total_us is the strategy's estimate: the sum of the evaluations, or what a
  /// model makes of them.
  TimedPlanPair best;
  double default_us = 0;  ///< of the default plan, by the same estimate; infinite if it did not run
  std::vector<EvaluatedPlan> evaluations;  ///< in order, each plan and pass at most once
  std::int64_t num_candidates = 0;         ///< of the problem
  bool complete = false;                   ///< the strategy came to its own end: no budget cut it short

  [[nodiscard]] std::int64_t num_evaluations() const { return static_cast<std::int64_t>(evaluations.size()); }
};

/// Finds plans within a budget. Without state: several searches may use one strategy at a time.
class SearchStrategy {
 public:
  virtual ~SearchStrategy() = default;

  /// Equal arguments, and an evaluator that answers alike, give an equal result.
  /// @throws InputError if the problem's plans lack the default plan, or no pair of plans ran, with the
  /// reason of the default plan; and what the evaluator throws.
  [[nodiscard]] virtual SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                            const SearchBudget& budget, std::uint64_t seed) const = 0;
};

enum class StrategyKind : std::uint8_t {
  kExhaustive,  ///< every candidate: the oracle, but for noise
  kRandom,      ///< plans drawn one after the other
  kDictionary,  ///< ternary search over r, all d and All-to-Alls
  kModel,       ///< simulate all, evaluate what may win
  kLocal,       ///< from the default plan to better neighbours
};
inline constexpr StrategyKind kStrategyKinds[] = {StrategyKind::kExhaustive, StrategyKind::kRandom,
                                                  StrategyKind::kDictionary, StrategyKind::kModel,
                                                  StrategyKind::kLocal};
/// `exhaustive`, `random`, `dictionary`, `model`, `local`.
[[nodiscard]] std::string_view name(StrategyKind kind);
/// Inverse of name(). @throws InputError naming the strategies and the nearest one.
[[nodiscard]] StrategyKind parse_strategy(std::string_view text);

/// `costs`: the model that guides kModel, of the problems' cluster; must live as long. Others ignore it.
[[nodiscard]] std::unique_ptr<SearchStrategy> make_strategy(StrategyKind kind, const CostModel& costs);

}  // namespace flex
