#include "tuner/model_guided_search.h"

#include <algorithm>
#include <cmath>

#include "tuner/duration_belief.h"
#include "tuner/search_session.h"

namespace flex {
namespace {

constexpr Eigen::Index kNumDraws = 256;
/// Spread of evaluations that claim to have less.
constexpr double kLeastSpread = 0.005;

/// A pair of candidates by their places in the belief; with one pass, both are the same.
struct CandidatePair {
  std::size_t forward = 0;
  std::size_t backward = 0;
};

/// What a search with a model knows.
class GuidedSession {
 public:
  GuidedSession(SearchSession& session, const CostModel& costs, const ModelGuidance& guidance,
                std::uint64_t seed)
      : session_(session),
        problem_(session.problem()),
        guidance_(guidance),
        seed_(seed),
        belief_(problem_, costs, {.parameter = guidance.parameter_error}),
        states_(belief_.size(), State::kOpen) {
    for (std::size_t i = 0; i < problem_.plans.size(); ++i) {
      for (std::size_t j = 0; j < problem_.plans.size(); ++j) {
        if (!can_pair(problem_.plans[i], problem_.plans[j])) continue;
        if (problem_.passes == Passes::kBoth) {
          pairs_.push_back({2 * i, 2 * j + 1});
        } else if (i == j) {
          pairs_.push_back({i, i});
        }
      }
    }
    for (const EvaluatedPlan& one : session.evaluations()) learn(one);
  }

  /// Evaluates the most promising candidate. False if none promises enough, or the budget is used up.
  bool step() {
    const std::optional<std::size_t> candidate = most_promising();
    if (!candidate) return false;
    const std::size_t num_passes = passes_of(problem_.passes).size();
    const Plan& plan = problem_.plans[*candidate / num_passes];
    if (!session_.evaluate(plan, passes_of(problem_.passes)[*candidate % num_passes])) return false;
    learn(session_.evaluations().back());
    return true;
  }

  /// The best pair that was evaluated, by what model and evaluations say together; the default plan's unless
  /// that is slower beyond doubt. Nothing if no pair ran.
  [[nodiscard]] std::optional<TimedPlanPair> best() const {
    std::vector<TimedPlan> timed;
    for (const EvaluatedPlan& one : session_.evaluations()) {
      if (one.evaluation.ran()) timed.push_back({one.plan, one.pass, belief_.mean_us(place_of(one))});
    }
    std::optional<TimedPlanPair> found = fastest_pair(timed, problem_.passes);
    const TimedPlanPair usual{kDefaultPlan, kDefaultPlan, default_us()};
    if (found && std::isfinite(usual.total_us) && !beats(*found, usual)) found = usual;
    return found;
  }

  /// No other pair promises enough, whatever the budget allows.
  [[nodiscard]] bool is_settled() const { return is_settled_; }

  [[nodiscard]] double default_us() const {
    double sum_us = 0;
    for (const EvaluatedPlan& one : session_.evaluations()) {
      if (one.plan != kDefaultPlan) continue;
      sum_us +=
          one.evaluation.ran() ? belief_.mean_us(place_of(one)) : std::numeric_limits<double>::infinity();
    }
    return sum_us;
  }

 private:
  enum class State : std::uint8_t { kOpen, kEvaluated, kCannotRun };

  [[nodiscard]] std::size_t place_of(const EvaluatedPlan& one) const {
    const auto passes = passes_of(problem_.passes);
    const auto plan = std::ranges::lower_bound(problem_.plans, one.plan) - problem_.plans.begin();
    const auto pass = std::ranges::find(passes, one.pass) - passes.begin();
    return static_cast<std::size_t>(plan) * passes.size() + static_cast<std::size_t>(pass);
  }

  void learn(const EvaluatedPlan& one) {
    const Evaluation& evaluation = one.evaluation;
    const std::size_t place = place_of(one);
    states_[place] = evaluation.ran() ? State::kEvaluated : State::kCannotRun;
    if (!evaluation.ran()) return;
    const double spread = std::max(evaluation.spread_us / evaluation.duration_us, kLeastSpread);
    belief_.observe(place, evaluation.duration_us, spread);
  }

  [[nodiscard]] bool is_open(std::size_t candidate) const { return states_[candidate] == State::kOpen; }
  [[nodiscard]] std::int64_t num_open(const CandidatePair& pair) const {
    if (pair.forward == pair.backward) return is_open(pair.forward) ? 1 : 0;
    return (is_open(pair.forward) ? 1 : 0) + (is_open(pair.backward) ? 1 : 0);
  }
  [[nodiscard]] bool can_run(const CandidatePair& pair) const {
    return states_[pair.forward] != State::kCannotRun && states_[pair.backward] != State::kCannotRun;
  }

  [[nodiscard]] CandidatePair candidates_of(const TimedPlanPair& pair) const {
    const auto passes = passes_of(problem_.passes);
    return {place_of({pair.of(passes.front()), passes.front()}),
            place_of({pair.of(passes.back()), passes.back()})};
  }
  [[nodiscard]] bool beats(const TimedPlanPair& pair, const TimedPlanPair& usual) const {
    const Eigen::MatrixXd draws = belief_.draw_us(kNumDraws, seed_);
    const Eigen::ArrayXd saved_us =
        (total_us(draws, candidates_of(usual)) - total_us(draws, candidates_of(pair))).array();
    const double spread_us = std::sqrt((saved_us - saved_us.mean()).square().mean());
    return saved_us.mean() > kLeastSavingSpreads * spread_us;
  }

  [[nodiscard]] Eigen::RowVectorXd total_us(const Eigen::MatrixXd& draws, const CandidatePair& pair) const {
    const auto forward = draws.row(static_cast<Eigen::Index>(pair.forward));
    if (pair.forward == pair.backward) return forward;
    return forward + draws.row(static_cast<Eigen::Index>(pair.backward));
  }

  /// Of the pair that promises most for each evaluation that it still needs, the candidate that is open; of
  /// two the forward one.
  [[nodiscard]] std::optional<std::size_t> most_promising() {
    is_settled_ = true;
    const Eigen::MatrixXd draws = belief_.draw_us(kNumDraws, seed_);
    Eigen::RowVectorXd best =
        Eigen::RowVectorXd::Constant(kNumDraws, std::numeric_limits<double>::infinity());
    for (const CandidatePair& pair : pairs_) {
      if (num_open(pair) > 0 || !can_run(pair)) continue;
      const Eigen::RowVectorXd us = total_us(draws, pair);
      if (us.mean() < best.mean()) best = us;
    }
    double most = 0;
    std::optional<CandidatePair> found;
    for (const CandidatePair& pair : pairs_) {
      const std::int64_t open = num_open(pair);
      if (open == 0 || !can_run(pair)) continue;
      const double gain = (best - total_us(draws, pair)).cwiseMax(0).mean() / best.mean();
      if (gain < guidance_.least_gain) continue;
      is_settled_ = false;
      const double share = gain / static_cast<double>(open);
      if (open > session_.evaluations_left() || share <= most) continue;
      most = share;
      found = pair;
    }
    if (!found) return std::nullopt;
    return is_open(found->forward) ? found->forward : found->backward;
  }

  SearchSession& session_;
  const SearchProblem& problem_;
  ModelGuidance guidance_;
  std::uint64_t seed_;
  DurationBelief belief_;
  std::vector<State> states_;  // by candidate
  std::vector<CandidatePair> pairs_;
  bool is_settled_ = false;
};

}  // namespace

SearchResult ModelGuidedSearch::search(const SearchProblem& problem, Evaluator& evaluator,
                                       const SearchBudget& budget, std::uint64_t seed) const {
  SearchBudget own = budget;
  own.max_evaluations = std::min(budget.max_evaluations, tenth_of(problem).max_evaluations);
  SearchSession session(problem, evaluator, own);
  GuidedSession guided(session, costs_, guidance_, seed);
  while (guided.step()) {
  }
  SearchResult result = session.finish();
  result.complete = guided.is_settled();
  if (const std::optional<TimedPlanPair> best = guided.best()) {
    result.best = *best;
    result.default_us = guided.default_us();
  }
  return result;
}

}  // namespace flex
