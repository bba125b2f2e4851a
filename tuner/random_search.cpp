#include "tuner/random_search.h"

#include <utility>

#include "base/philox.h"
#include "tuner/search_session.h"

namespace flex {

SearchResult RandomSearch::search(const SearchProblem& problem, Evaluator& evaluator,
                                  const SearchBudget& budget, std::uint64_t seed) const {
  SearchSession session(problem, evaluator, budget);
  std::vector<Plan> plans = problem.plans;
  PhiloxStream random(seed);
  for (std::size_t i = plans.size(); i > 1; --i) {
    std::swap(plans[i - 1], plans[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
  session.evaluate_all(plans);
  return session.finish();
}

}  // namespace flex
