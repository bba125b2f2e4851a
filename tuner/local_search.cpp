#include "tuner/local_search.h"

#include <algorithm>
#include <utility>

#include "base/philox.h"
#include "tuner/search_session.h"

namespace flex {
namespace {

/// What can be reached from a pair of plans by one step.
class Neighbourhood {
 public:
  explicit Neighbourhood(const SearchProblem& problem) : problem_(problem) {
    for (const Plan& plan : problem.plans) {
      if (degrees_.empty() || degrees_.back() != plan.parallel_degree) {
        degrees_.push_back(plan.parallel_degree);
      }
    }
  }

  [[nodiscard]] std::vector<TimedPlanPair> of(const TimedPlanPair& pair) const {
    std::vector<TimedPlanPair> result;
    const auto add = [&](const Plan& forward, const Plan& backward) {
      if (is_candidate(forward) && is_candidate(backward)) result.push_back({forward, backward});
    };
    for (const std::int32_t degree : next_degrees(pair.forward.parallel_degree)) {
      add(with_degree(pair.forward, degree), with_degree(pair.backward, degree));
    }
    const bool is_both = problem_.passes == Passes::kBoth;
    for (const Plan& plan : next_plans(pair.forward)) add(plan, is_both ? pair.backward : plan);
    if (is_both) {
      for (const Plan& plan : next_plans(pair.backward)) add(pair.forward, plan);
    }
    add(with_other_kernel(pair.forward), with_other_kernel(pair.backward));
    return result;
  }

 private:
  [[nodiscard]] bool is_candidate(const Plan& plan) const {
    return std::ranges::binary_search(problem_.plans, plan);
  }

  [[nodiscard]] std::vector<std::int32_t> next_degrees(std::int32_t degree) const {
    const auto here = std::ranges::find(degrees_, degree);
    std::vector<std::int32_t> next;
    if (here != degrees_.begin()) next.push_back(*std::prev(here));
    if (std::next(here) != degrees_.end()) next.push_back(*std::next(here));
    return next;
  }

  // Without an exchange there is nothing to pipeline and nothing to choose.
  static Plan with_degree(Plan plan, std::int32_t degree) {
    if (degree == 0) return {.parallel_degree = 0, .expert_kernel = plan.expert_kernel};
    plan.parallel_degree = degree;
    return plan;
  }

  static Plan with_other_kernel(Plan plan) {
    plan.expert_kernel =
        plan.expert_kernel == ExpertKernel::kPadded ? ExpertKernel::kCounted : ExpertKernel::kPadded;
    return plan;
  }

  static std::vector<Plan> next_plans(const Plan& plan) {
    Plan less = plan;
    less.pipeline_degree /= 2;  // 0 is no candidate
    Plan more = plan;
    more.pipeline_degree *= 2;
    Plan other = plan;
    other.all_to_all = plan.all_to_all == AllToAllAlgorithm::kLinear ? AllToAllAlgorithm::kHierarchical2d
                                                                     : AllToAllAlgorithm::kLinear;
    return {less, more, other};
  }

  const SearchProblem& problem_;
  std::vector<std::int32_t> degrees_;
};

void shuffle(std::vector<TimedPlanPair>& pairs, PhiloxStream& random) {
  for (std::size_t i = pairs.size(); i > 1; --i) {
    std::swap(pairs[i - 1], pairs[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
}

}  // namespace

SearchResult LocalSearch::search(const SearchProblem& problem, Evaluator& evaluator,
                                 const SearchBudget& budget, std::uint64_t seed) const {
  SearchSession session(problem, evaluator, budget);
  const Neighbourhood neighbourhood(problem);
  PhiloxStream random(seed);
  TimedPlanPair here = session.best().value_or(TimedPlanPair{});
  for (bool moved = true; moved;) {
    std::vector<TimedPlanPair> neighbours = neighbourhood.of(here);
    shuffle(neighbours, random);
    for (const TimedPlanPair& neighbour : neighbours) {
      if (!session.evaluate(neighbour)) return session.finish();
    }
    // What was evaluated on the way may pair up to something better than each neighbour.
    const std::optional<TimedPlanPair> best = session.best();
    moved = best && best->total_us < here.total_us;
    if (moved) here = *best;
  }
  return session.finish();
}

}  // namespace flex
