#include "tests/support/reference_loss.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/support/reference_gate.h"

namespace flex::testing {
namespace {

constexpr double kMeanFloor = 1e-10;  // added to the squared mean by cv2

using Ranks = std::span<const ReferenceRank>;

std::int64_t num_tokens(Ranks scope) {
  std::int64_t sum = 0;
  for (const ReferenceRank& rank : scope) sum += rank.num_tokens;
  return sum;
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_pdf(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi); }

double mean_of(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double unbiased_variance(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double sum = 0.0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return sum / static_cast<double>(values.size() - 1);
}

double cv2(const std::vector<double>& values) {
  if (values.size() == 1) return 0.0;
  const double mean = mean_of(values);
  return unbiased_variance(values) / (mean * mean + kMeanFloor);
}

std::vector<double> cv2_gradient(const std::vector<double>& values) {
  std::vector<double> gradient(values.size(), 0.0);
  if (values.size() == 1) return gradient;
  const auto count = static_cast<double>(values.size());
  const double mean = mean_of(values);
  const double divisor = mean * mean + kMeanFloor;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double dvariance = 2.0 * (values[i] - mean) / (count - 1.0);
    const double ddivisor = 2.0 * mean / count;
    gradient[i] = dvariance / divisor - unbiased_variance(values) * ddivisor / (divisor * divisor);
  }
  return gradient;
}

std::vector<double> sum_of_rows(const std::vector<double>& matrix, std::vector<double> sums) {
  for (std::size_t i = 0; i < matrix.size(); ++i) sums[i % sums.size()] += matrix[i];
  return sums;
}

/// First choices per expert.
std::vector<double> first_choices(const ReferenceConfig& config, std::int64_t top_k, Ranks scope) {
  std::vector<double> counts(config.num_experts, 0.0);
  for (const ReferenceRank& rank : scope) {
    for (std::int64_t token = 0; token < rank.num_tokens; ++token) counts[rank.indices[token * top_k]] += 1.0;
  }
  return counts;
}

/// What the load of the loss compares with the threshold: probabilities as published, else logits.
std::vector<double> compared_values(const ReferenceConfig& config, const ReferenceRank& rank) {
  if (config.loss == ReferenceLoss::kLoadImportanceReleased) {
    return softmax_rows(rank.clean_logits, config.num_experts);
  }
  return rank.clean_logits;
}

std::vector<double> importance_of(const ReferenceConfig& config, Ranks scope) {
  std::vector<double> importance(config.num_experts, 0.0);
  for (const ReferenceRank& rank : scope) {
    importance = sum_of_rows(softmax_rows(rank.clean_logits, config.num_experts), importance);
  }
  return importance;
}

/// Index into the (T, E) logits of the token's last chosen expert.
std::int64_t last_choice(const ReferenceConfig& config, std::int64_t top_k, const ReferenceRank& rank,
                         std::int64_t token) {
  return token * config.num_experts + rank.indices[token * top_k + top_k - 1];
}

std::vector<double> load_of(const ReferenceConfig& config, std::int64_t top_k, Ranks scope) {
  const double stddev = config.gate_noise / static_cast<double>(config.num_experts);
  std::vector<double> load(config.num_experts, 0.0);
  for (const ReferenceRank& rank : scope) {
    const std::vector<double> compared = compared_values(config, rank);
    for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
      const double threshold = rank.noisy_logits[last_choice(config, top_k, rank, token)];
      for (std::int64_t e = 0; e < config.num_experts; ++e) {
        load[e] += normal_cdf((compared[token * config.num_experts + e] - threshold) / stddev);
      }
    }
  }
  return load;
}

double log_sum_exp(const double* logits, std::int64_t num_experts) {
  const double largest = *std::max_element(logits, logits + num_experts);
  double sum = 0.0;
  for (std::int64_t e = 0; e < num_experts; ++e) sum += std::exp(logits[e] - largest);
  return largest + std::log(sum);
}

double gshard_loss(const ReferenceConfig& config, std::int64_t top_k, Ranks scope) {
  std::vector<double> score_sums(config.num_experts, 0.0);
  for (const ReferenceRank& rank : scope) score_sums = sum_of_rows(rank.scores, score_sums);
  const std::vector<double> counts = first_choices(config, top_k, scope);
  double sum = 0.0;
  for (std::int64_t e = 0; e < config.num_experts; ++e) sum += score_sums[e] * counts[e];
  const auto tokens = static_cast<double>(num_tokens(scope));
  return static_cast<double>(config.num_experts) / (tokens * tokens) * sum;
}

double z_loss(const ReferenceConfig& config, Ranks scope) {
  double sum = 0.0;
  for (const ReferenceRank& rank : scope) {
    for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
      const double value = log_sum_exp(&rank.clean_logits[token * config.num_experts], config.num_experts);
      sum += value * value;
    }
  }
  return sum / static_cast<double>(num_tokens(scope));
}

void gshard_backward(const ReferenceConfig& config, std::int64_t top_k, Ranks scope, double weight,
                     std::span<std::vector<double>> dlogits) {
  const std::vector<double> counts = first_choices(config, top_k, scope);
  const auto tokens = static_cast<double>(num_tokens(scope));
  for (std::size_t r = 0; r < scope.size(); ++r) {
    std::vector<double> dscores(scope[r].scores.size());
    for (std::int64_t i = 0; i < std::ssize(dscores); ++i) {
      dscores[i] = weight * static_cast<double>(config.num_experts) / (tokens * tokens) *
                   counts[i % config.num_experts];
    }
    softmax_backward_rows(scope[r].scores, dscores, config.num_experts, dlogits[r]);
  }
}

void load_importance_backward(const ReferenceConfig& config, std::int64_t top_k, Ranks scope, double weight,
                              std::span<std::vector<double>> dlogits) {
  const double stddev = config.gate_noise / static_cast<double>(config.num_experts);
  const std::vector<double> dimportance = cv2_gradient(importance_of(config, scope));
  const std::vector<double> dload = cv2_gradient(load_of(config, top_k, scope));
  for (std::size_t r = 0; r < scope.size(); ++r) {
    const ReferenceRank& rank = scope[r];
    const std::vector<double> compared = compared_values(config, rank);
    std::vector<double> dprobabilities(compared.size(), 0.0);  // by softmax(clean)
    for (std::int64_t token = 0; token < rank.num_tokens; ++token) {
      const std::int64_t last = last_choice(config, top_k, rank, token);
      for (std::int64_t e = 0; e < config.num_experts; ++e) {
        const std::int64_t i = token * config.num_experts + e;
        dprobabilities[i] += 0.5 * weight * dimportance[e];
        const double distance = (compared[i] - rank.noisy_logits[last]) / stddev;
        const double dcompared = 0.5 * weight * dload[e] * normal_pdf(distance) / stddev;
        dlogits[r][last] -= dcompared;  // the threshold
        if (config.loss == ReferenceLoss::kLoadImportanceReleased) {
          dprobabilities[i] += dcompared;
        } else {
          dlogits[r][i] += dcompared;
        }
      }
    }
    softmax_backward_rows(softmax_rows(rank.clean_logits, config.num_experts), dprobabilities,
                          config.num_experts, dlogits[r]);
  }
}

void z_loss_backward(const ReferenceConfig& config, Ranks scope, double weight,
                     std::span<std::vector<double>> dlogits) {
  const auto tokens = static_cast<double>(num_tokens(scope));
  for (std::size_t r = 0; r < scope.size(); ++r) {
    const std::vector<double> probabilities = softmax_rows(scope[r].clean_logits, config.num_experts);
    for (std::int64_t token = 0; token < scope[r].num_tokens; ++token) {
      const std::int64_t begin = token * config.num_experts;
      const double value = log_sum_exp(&scope[r].clean_logits[begin], config.num_experts);
      for (std::int64_t i = begin; i < begin + config.num_experts; ++i) {
        dlogits[r][i] += weight * 2.0 * value * probabilities[i] / tokens;
      }
    }
  }
}

bool is_load_importance(const ReferenceConfig& config) {
  return config.loss == ReferenceLoss::kLoadImportance ||
         config.loss == ReferenceLoss::kLoadImportanceReleased;
}

}  // namespace

double auxiliary_loss(const ReferenceConfig& config, std::int64_t top_k, Ranks scope) {
  if (num_tokens(scope) == 0) return 0.0;
  double loss = config.z_loss_weight == 0.0 ? 0.0 : config.z_loss_weight * z_loss(config, scope);
  if (config.loss == ReferenceLoss::kGshard) loss += gshard_loss(config, top_k, scope);
  if (is_load_importance(config)) {
    loss += 0.5 * (cv2(importance_of(config, scope)) + cv2(load_of(config, top_k, scope)));
  }
  return loss;
}

void auxiliary_loss_backward(const ReferenceConfig& config, std::int64_t top_k, Ranks scope, double weight,
                             std::span<std::vector<double>> dlogits) {
  if (num_tokens(scope) == 0) return;
  if (config.loss == ReferenceLoss::kGshard) gshard_backward(config, top_k, scope, weight, dlogits);
  if (is_load_importance(config)) load_importance_backward(config, top_k, scope, weight, dlogits);
  if (config.z_loss_weight != 0.0) z_loss_backward(config, scope, weight * config.z_loss_weight, dlogits);
}

}  // namespace flex::testing
