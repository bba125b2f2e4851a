#include "tuner/exhaustive_search.h"

#include "tuner/search_session.h"

namespace flex {

SearchResult ExhaustiveSearch::search(const SearchProblem& problem, Evaluator& evaluator,
                                      const SearchBudget& budget, std::uint64_t /*seed*/) const {
  SearchSession session(problem, evaluator, budget);
  session.evaluate_all(problem.plans);
  return session.finish();
}

}  // namespace flex
