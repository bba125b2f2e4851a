#pragma once

#include "tuner/search.h"

namespace flex {

/// Evaluates plans in an order drawn by the seed, each in all passes, until the budget ends.
class RandomSearch final : public SearchStrategy {
 public:
  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget, std::uint64_t seed) const override;
};

}  // namespace flex
