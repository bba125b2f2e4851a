#pragma once

#include "tuner/search.h"

namespace flex {

/// Evaluates every candidate, in ascending order of plans and each plan in all passes. With a noise-free
/// evaluator it is the oracle.
class ExhaustiveSearch final : public SearchStrategy {
 public:
  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget, std::uint64_t seed) const override;
};

}  // namespace flex
