#include "tests/support/reference_route.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "tests/support/reference_gate.h"

namespace flex::testing {
namespace {

/// Indices 0 .. size-1 by descending key; equal keys keep the lower index first.
std::vector<std::int64_t> descending_order(std::span<const double> keys) {
  std::vector<std::int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return keys[a] > keys[b]; });
  return order;
}

/// The divisor of normalize_gate: the sum of all k choices' scores.
double gate_sum(const ReferenceConfig& config, const ReferenceRank& rank, std::int64_t top_k,
                std::int64_t token) {
  double sum = 0.0;
  for (std::int64_t i = token * top_k; i < (token + 1) * top_k; ++i) {
    sum += rank.scores[token * config.num_experts + rank.indices[i]];
  }
  return std::max(sum, std::numeric_limits<double>::epsilon());
}

}  // namespace

void choose_experts(const ReferenceConfig& config, std::int64_t top_k, ReferenceRank& rank) {
  for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
    const std::span<const double> scores(&rank.scores[token * config.num_experts], config.num_experts);
    const std::vector<std::int64_t> order = descending_order(scores);
    for (std::int64_t j = 0; j < top_k; ++j) {
      rank.indices.push_back(static_cast<std::int32_t>(order[j]));
      rank.gates.push_back(scores[order[j]]);
    }
    if (!config.normalize_gate || top_k == 1) continue;
    const double sum = gate_sum(config, rank, top_k, token);
    for (std::int64_t j = 0; j < top_k; ++j) rank.gates[token * top_k + j] /= sum;
  }
}

void locate_choices(const ReferenceConfig& config, std::int64_t top_k, ReferenceRank& rank) {
  std::vector<double> priority(rank.num_tokens, 0.0);  // all equal: the token order
  if (config.batch_prioritized) {
    for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
      const auto begin = rank.scores.begin() + token * config.num_experts;
      priority[token] = *std::max_element(begin, begin + config.num_experts);
    }
  }
  const std::vector<std::int64_t> order = descending_order(priority);
  rank.locations.assign(rank.num_tokens * top_k, 0);
  rank.expert_counts.assign(config.num_experts, 0);
  for (std::int64_t j = 0; j < top_k; ++j) {
    for (const std::int64_t token : order) {
      const std::int64_t choice = token * top_k + j;
      rank.locations[choice] = rank.expert_counts[rank.indices[choice]]++;
    }
  }
}

std::vector<double> gates_backward(const ReferenceConfig& config, std::int64_t top_k,
                                   const ReferenceRank& rank, const std::vector<double>& dgates) {
  std::vector<double> dscores(rank.scores.size(), 0.0);
  for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
    double divisor = 1.0;
    double common = 0.0;
    if (config.normalize_gate && top_k > 1) {
      divisor = gate_sum(config, rank, top_k, token);
      for (std::int64_t i = token * top_k; i < (token + 1) * top_k; ++i) common += dgates[i] * rank.gates[i];
    }
    for (std::int64_t i = token * top_k; i < (token + 1) * top_k; ++i) {
      dscores[token * config.num_experts + rank.indices[i]] += (dgates[i] - common) / divisor;
    }
  }
  std::vector<double> dlogits(rank.scores.size(), 0.0);
  softmax_backward_rows(rank.scores, dscores, config.num_experts, dlogits);
  return dlogits;
}

std::int64_t reference_capacity(const ReferenceCall& call, std::int64_t num_experts, std::int64_t max_tokens,
                                std::int64_t needed) {
  if (call.capacity_factor == 0.0) return needed;
  const std::int64_t rounded_up = (max_tokens + num_experts - 1) / num_experts;
  const auto tokens_per_expert = static_cast<double>(rounded_up);
  const std::int64_t bound =
      call.top_k * static_cast<std::int64_t>(std::floor(std::abs(call.capacity_factor) * tokens_per_expert));
  return call.capacity_factor > 0.0 ? bound : std::min(needed, bound);
}

}  // namespace flex::testing
