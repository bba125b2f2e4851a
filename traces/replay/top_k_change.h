#pragma once

#include <cstdint>

#include "traces/sparse_counts.h"

namespace flex {

/// Counts as they might be if every token took `new_top_k` experts instead of `top_k`.
///
/// A trace does not say which experts would have come next. The counts of each source rank are scaled by
/// new_top_k / top_k and rounded so that its tokens stay as many as they are: parts below one go to the
/// experts with the largest ones (of equals the lower expert). A token takes an expert at most once, so an
/// expert has at most T choices of T tokens: what is beyond goes to the others in proportion to their own
/// counts, and to experts without any only when those are full, evenly.
///
/// So experts keep their popularity. In truth choices further down are spread more evenly than the first
/// ones: a larger k comes out more uneven than it would be, a smaller one less uneven.
///
/// `counts`: each row a multiple of top_k, no count above row / top_k.
/// @throws InputError for new_top_k outside [1, num_experts].
[[nodiscard]] SparseCounts with_top_k(const SparseCounts& counts, std::int64_t top_k, std::int64_t new_top_k,
                                      std::int64_t num_experts);

}  // namespace flex
