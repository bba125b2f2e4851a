#pragma once

#include "tuner/search.h"

namespace flex {

/// Goes from the default plan to the best pair of plans among its neighbours, until none is better: the next
/// smaller or larger r (with the same d and All-to-All where that r has them), and in one pass the next
/// smaller or larger d, or the other All-to-All; the other expert kernel in both. The seed orders neighbours,
/// which matters where the budget ends among them. Ends where no neighbour is better.
class LocalSearch final : public SearchStrategy {
 public:
  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget, std::uint64_t seed) const override;
};

}  // namespace flex
