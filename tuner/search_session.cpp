#include "tuner/search_session.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"

namespace flex {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double duration_us(const Evaluation& evaluation) {
  return evaluation.ran() ? evaluation.duration_us : kInfinity;
}

std::int64_t max_evaluations_of(const SearchBudget& budget, const SearchProblem& problem) {
  const double fraction = budget.max_fraction * static_cast<double>(problem.num_candidates());
  // A tenth of 20 shall be 2, which 0.1 * 20 in floating point need not reach.
  constexpr double kRounding = 1e-9;
  if (fraction >= static_cast<double>(problem.num_candidates())) return budget.max_evaluations;
  return std::min(budget.max_evaluations, static_cast<std::int64_t>(fraction + kRounding));
}

}  // namespace

SearchSession::SearchSession(const SearchProblem& problem, Evaluator& evaluator, const SearchBudget& budget)
    : problem_(problem),
      evaluator_(evaluator),
      max_evaluations_(max_evaluations_of(budget, problem)),
      end_s_(evaluator.elapsed_s() + budget.max_seconds) {
  require(std::ranges::binary_search(problem.plans, kDefaultPlan),
          "the candidates lack the default plan {}, or are not in ascending order", to_string(kDefaultPlan));
  for (const Pass pass : passes_of(problem.passes)) record(kDefaultPlan, pass);
}

double SearchSession::record(const Plan& plan, Pass pass) {
  index_[{plan, pass}] = evaluations_.size();
  evaluations_.push_back({plan, pass, evaluator_.evaluate(plan, pass)});
  return duration_us(evaluations_.back().evaluation);
}

bool SearchSession::is_over() const {
  const double elapsed_s = evaluator_.elapsed_s();
  return evaluations_left() == 0 || elapsed_s > end_s_ || std::isinf(elapsed_s);
}

std::int64_t SearchSession::evaluations_left() const {
  return std::max<std::int64_t>(max_evaluations_ - static_cast<std::int64_t>(evaluations_.size()), 0);
}

std::optional<double> SearchSession::evaluate(const Plan& plan, Pass pass) {
  if (const auto known = index_.find({plan, pass}); known != index_.end()) {
    return duration_us(evaluations_[known->second].evaluation);
  }
  if (is_over()) {
    cut_ = true;
    return std::nullopt;
  }
  return record(plan, pass);
}

std::optional<double> SearchSession::evaluate(const TimedPlanPair& pair) {
  double total_us = 0;
  for (const Pass pass : passes_of(problem_.passes)) {
    const std::optional<double> us = evaluate(pair.of(pass), pass);
    if (!us) return std::nullopt;
    total_us += *us;
  }
  return total_us;
}

bool SearchSession::evaluate_all(std::span<const Plan> plans) {
  return std::ranges::all_of(plans, [&](const Plan& plan) { return evaluate({plan, plan}).has_value(); });
}

std::optional<TimedPlanPair> SearchSession::best() const {
  std::vector<TimedPlan> timed;
  for (const EvaluatedPlan& one : evaluations_) {
    timed.push_back({one.plan, one.pass, duration_us(one.evaluation)});
  }
  return fastest_pair(timed, problem_.passes);
}

std::optional<TimedPlanPair> SearchSession::best_with(const Plan& plan) const {
  std::vector<TimedPlan> timed;
  for (const EvaluatedPlan& one : evaluations_) {
    if (can_pair(one.plan, plan)) timed.push_back({one.plan, one.pass, duration_us(one.evaluation)});
  }
  return fastest_pair(timed, problem_.passes);
}

bool SearchSession::beats_default(const TimedPlanPair& pair, double default_us) const {
  double variance = 0;
  for (const Pass pass : passes_of(problem_.passes)) {
    if (pair.of(pass) == kDefaultPlan) continue;  // the same evaluation
    for (const Plan& plan : {pair.of(pass), kDefaultPlan}) {
      const double spread_us = evaluations_[index_.at({plan, pass})].evaluation.spread_us;
      variance += spread_us * spread_us;
    }
  }
  return pair.total_us < default_us - kLeastSavingSpreads * std::sqrt(variance);
}

SearchResult SearchSession::finish() const {
  std::optional<TimedPlanPair> found = best();
  require(found.has_value(), "no plan could run; {}: {}", to_string(kDefaultPlan),
          evaluations_.front().evaluation.why_not);
  double default_us = 0;
  for (std::size_t i = 0; i < passes_of(problem_.passes).size(); ++i) {
    default_us += duration_us(evaluations_[i].evaluation);
  }
  if (default_us < kInfinity && !beats_default(*found, default_us)) {
    found = {{kDefaultPlan, kDefaultPlan}, default_us};
  }
  return {.best = *found,
          .default_us = default_us,
          .evaluations = evaluations_,
          .num_candidates = problem_.num_candidates(),
          .complete = !cut_};
}

}  // namespace flex
