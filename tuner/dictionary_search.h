#pragma once

#include "tuner/search.h"

namespace flex {

/// The search of the Tutel paper: ternary search over r among the divisors of the ranks that share an expert,
/// as if their times fell to one minimum and rose from there; r = 0 and the largest r are tried besides; for
/// each r all d and All-to-Alls. Its expert kernels, where there are several, are tried for each r too.
///
/// For each pass it evaluates at most (log_1.5(s) + 2) * 8 plans, s ranks sharing an expert (and as many
/// times more as there are expert kernels).
/// @source Hwang et al., "Tutel: Adaptive Mixture-of-Experts at Scale", MLSys 2023, arXiv 2206.03382v2
class DictionarySearch final : public SearchStrategy {
 public:
  [[nodiscard]] SearchResult search(const SearchProblem& problem, Evaluator& evaluator,
                                    const SearchBudget& budget, std::uint64_t seed) const override;
};

}  // namespace flex
