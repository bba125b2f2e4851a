#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/gate_loss.h"

/// What the kernels of the losses on the gate share. As on the CPU, everything is computed in double.
/// Included by .cu files only.
namespace flex {

/// What a kernel of the losses is given.
struct LossParams {
  GateLossKind kind;
  const float* scores;
  const float* clean;
  const float* noisy;
  const std::int32_t* indices;
  const double* sums;  // of all tokens of the scope
  double* partials;    // (2 E + 1, slices)
  float* dlogits;
  std::int64_t num_tokens;
  std::int64_t num_slices;
  int num_experts;
  int top_k;
  double stddev;  // of the noise
  double dvalue;
  double z_loss_weight;

  [[nodiscard]] FLEX_HOST_DEVICE bool compares_load() const {
    return kind == GateLossKind::kLoadImportance || kind == GateLossKind::kLoadImportanceReleased;
  }
  /// Whether anything depends on the clean logits.
  [[nodiscard]] FLEX_HOST_DEVICE bool needs_statistics() const {
    return compares_load() || z_loss_weight != 0.0;
  }
  [[nodiscard]] __device__ bool released() const { return kind == GateLossKind::kLoadImportanceReleased; }
};

__device__ inline double normal_cdf(double v) { return 0.5 * erfc(-v * 0.70710678118654752440); }
__device__ inline double normal_density(double v) { return exp(-0.5 * v * v) * 0.39894228040143267794; }

/// A token's softmax of the clean logits and the threshold of its load.
struct TokenStatistics {
  double largest;
  double sum;
  double threshold;

  [[nodiscard]] __device__ double softmax(float logit) const { return exp(logit - largest) / sum; }
  [[nodiscard]] __device__ double log_sum_exp() const { return largest + log(sum); }
};

/// For a whole warp; every lane gets the result.
__device__ inline TokenStatistics token_statistics(const LossParams& p, std::int64_t token, int lane) {
  const float* clean = p.clean + token * p.num_experts;
  float largest = -INFINITY;
  for (int expert = lane; expert < p.num_experts; expert += kWarpSize)
    largest = fmaxf(largest, clean[expert]);
  TokenStatistics statistics = {.largest = lanes_max(largest), .sum = 0.0, .threshold = 0.0};
  double sum = 0.0;
  for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
    sum += exp(clean[expert] - statistics.largest);
  }
  statistics.sum = lanes_sum(sum);
  if (p.compares_load()) {
    const std::int32_t last = p.indices[token * p.top_k + p.top_k - 1];
    statistics.threshold = p.noisy[token * p.num_experts + last];
  }
  return statistics;
}

/// How far an expert's clean gate value is above the token's threshold, in standard deviations of the noise.
__device__ inline double load_margin(const LossParams& p, const TokenStatistics& statistics, float clean) {
  const double value = p.released() ? statistics.softmax(clean) : static_cast<double>(clean);
  return (value - statistics.threshold) / p.stddev;
}

/// Slices of tokens whose sums are taken first.
inline std::int64_t num_loss_slices(std::int64_t tokens) {
  constexpr std::int64_t kMinTokens = 32;
  constexpr std::int64_t kMaxSlices = 528;  // four for each SM of an H100 or H200
  return std::min(ceil_div(tokens, kMinTokens), kMaxSlices);
}

/// What sums and gradient are given alike.
template <class Args>
[[nodiscard]] LossParams loss_params(const Args& args) {
  const std::int64_t experts = args.scores.size(1);
  return {.kind = args.settings.kind,
          .scores = args.scores.template as<float>(),
          .clean = args.clean.template as<float>(),
          .noisy = args.noisy.template as<float>(),
          .indices = args.indices.template as<std::int32_t>(),
          .num_tokens = args.scores.size(0),
          .num_slices = num_loss_slices(args.scores.size(0)),
          .num_experts = static_cast<int>(experts),
          .top_k = static_cast<int>(args.indices.size(1)),
          .stddev = args.settings.gate_noise / static_cast<double>(experts),
          .z_loss_weight = args.settings.z_loss_weight};
}

}  // namespace flex
