#include "traces/replay/top_k_change.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/require.h"

namespace flex {
namespace {

// Counts are below 2^31 and totals below 2^51: products need more than 64 bits.
__extension__ using Wide = __int128;

struct Share {
  std::int32_t expert = 0;
  std::int64_t weight = 0;
  std::int64_t choices = 0;
  std::int64_t remainder = 0;  // of weight * total / weights
};

/// Gives full experts their `limit`, and takes them out of `total` and `weights`. Returns the first of those
/// that are left; shares are in descending order of weights.
std::size_t fill(std::vector<Share>& shares, std::int64_t limit, std::int64_t& total, std::int64_t& weights) {
  std::size_t first = 0;
  for (; first < shares.size(); ++first) {
    Share& share = shares[first];
    if (Wide{share.weight} * total < Wide{limit} * weights) break;
    share.choices = limit;
    total -= limit;
    weights -= share.weight;
  }
  return first;
}

/// Splits `total` in proportion to weights, with the largest remainders rounded up.
void split(std::span<Share> shares, std::int64_t total, std::int64_t weights) {
  std::int64_t given = 0;
  for (Share& share : shares) {
    const Wide product = Wide{share.weight} * total;
    share.choices = static_cast<std::int64_t>(product / weights);
    share.remainder = static_cast<std::int64_t>(product % weights);
    given += share.choices;
  }
  std::ranges::sort(shares, [](const Share& a, const Share& b) {
    return a.remainder != b.remainder ? a.remainder > b.remainder : a.expert < b.expert;
  });
  for (std::size_t i = 0; given < total; ++i, ++given) ++shares[i].choices;
}

/// Spreads what experts with choices cannot take over those without, evenly; lower experts take one more.
void spill(std::vector<Share>& shares, std::int64_t total, std::int64_t num_experts) {
  std::vector<bool> has_choices(static_cast<std::size_t>(num_experts));
  for (const Share& share : shares) has_choices[static_cast<std::size_t>(share.expert)] = true;
  const std::int64_t empty = num_experts - static_cast<std::int64_t>(shares.size());
  std::int64_t index = 0;
  for (std::int64_t expert = 0; expert < num_experts; ++expert) {
    if (has_choices[static_cast<std::size_t>(expert)]) continue;
    const std::int64_t choices = total / empty + (index++ < total % empty ? 1 : 0);
    if (choices > 0) shares.push_back({.expert = static_cast<std::int32_t>(expert), .choices = choices});
  }
}

}  // namespace

SparseCounts with_top_k(const SparseCounts& counts, std::int64_t top_k, std::int64_t new_top_k,
                        std::int64_t num_experts) {
  require(new_top_k >= 1 && new_top_k <= num_experts, "k is {}; with {} experts it is from 1 to {}",
          new_top_k, num_experts, num_experts);
  if (new_top_k == top_k) return counts;
  SparseCounts result;
  std::vector<Share> shares;
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    const SparseCounts::Row row = counts.row(r);
    shares.clear();
    std::int64_t weights = 0;
    for (const ExpertCount& entry : row.experts) {
      shares.push_back({.expert = entry.expert, .weight = entry.choices});
      weights += entry.choices;
    }
    std::ranges::sort(shares, [](const Share& a, const Share& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.expert < b.expert;
    });
    const std::int64_t num_tokens = weights / top_k;
    std::int64_t total = num_tokens * new_top_k;
    const std::size_t first = fill(shares, num_tokens, total, weights);
    if (first < shares.size()) {
      split(std::span(shares).subspan(first), total, weights);
    } else if (total > 0) {
      spill(shares, total, num_experts);
    }
    std::ranges::sort(shares, {}, &Share::expert);
    result.begin_row(row.source);
    for (const Share& share : shares) {
      if (share.choices > 0) result.add(share.expert, static_cast<std::int32_t>(share.choices));
    }
  }
  return result;
}

}  // namespace flex
