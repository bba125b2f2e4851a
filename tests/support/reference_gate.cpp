#include "tests/support/reference_gate.h"

#include <algorithm>
#include <cmath>

namespace flex::testing {
namespace {

constexpr double kNormFloor = 1e-12;
const double kMaxTemperature = std::log(100.0);

double dot(const double* a, const double* b, std::int64_t size) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

std::vector<double> column(const std::vector<double>& matrix, std::int64_t num_rows, std::int64_t num_columns,
                           std::int64_t index) {
  std::vector<double> values;
  for (std::int64_t row = 0; row < num_rows; ++row) values.push_back(matrix[row * num_columns + index]);
  return values;
}

std::vector<double> normalized(const std::vector<double>& vector) {
  const double norm = std::sqrt(dot(vector.data(), vector.data(), std::ssize(vector)));
  std::vector<double> unit = vector;
  for (double& value : unit) value /= std::max(norm, kNormFloor);
  return unit;
}

/// Gradient by `vector`, given that by normalized(vector).
std::vector<double> normalized_backward(const std::vector<double>& vector, const std::vector<double>& dunit) {
  const double norm = std::sqrt(dot(vector.data(), vector.data(), std::ssize(vector)));
  std::vector<double> dvector = dunit;
  if (norm < kNormFloor) {  // the divisor is a constant here
    for (double& value : dvector) value /= kNormFloor;
    return dvector;
  }
  const std::vector<double> unit = normalized(vector);
  const double along = dot(unit.data(), dunit.data(), std::ssize(unit));
  for (std::size_t i = 0; i < dvector.size(); ++i) dvector[i] = (dunit[i] - along * unit[i]) / norm;
  return dvector;
}

std::vector<double> project(const ReferenceLayerView& layer, const double* x) {
  const auto& [config, parameters] = layer;
  std::vector<double> projected = parameters.projector_bias;
  for (std::int64_t p = 0; p < config.proj_dim; ++p) {
    projected[p] += dot(&parameters.projector_weight[p * config.model_dim], x, config.model_dim);
  }
  return projected;
}

void cosine_backward_token(const ReferenceLayerView& layer, const double* x, const double* dlogits,
                           ReferenceParameters& gradients, double* dx) {
  const auto& [config, parameters] = layer;
  const double temperature = parameters.temperature[0];
  const double scale = std::exp(std::min(temperature, kMaxTemperature));
  const std::vector<double> projected = project(layer, x);
  const std::vector<double> unit = normalized(projected);
  std::vector<double> dunit(unit.size(), 0.0);
  for (std::int64_t expert = 0; expert < config.num_experts; ++expert) {
    const std::vector<double> sim =
        column(parameters.sim_matrix, config.proj_dim, config.num_experts, expert);
    const std::vector<double> sim_unit = normalized(sim);
    const double cosine = dot(unit.data(), sim_unit.data(), config.proj_dim);
    if (temperature <= kMaxTemperature) gradients.temperature[0] += dlogits[expert] * cosine * scale;
    std::vector<double> dsim_unit(sim.size());
    for (std::int64_t p = 0; p < config.proj_dim; ++p) {
      dunit[p] += dlogits[expert] * scale * sim_unit[p];
      dsim_unit[p] = dlogits[expert] * scale * unit[p];
    }
    const std::vector<double> dsim = normalized_backward(sim, dsim_unit);
    for (std::int64_t p = 0; p < config.proj_dim; ++p)
      gradients.sim_matrix[p * config.num_experts + expert] += dsim[p];
  }
  const std::vector<double> dprojected = normalized_backward(projected, dunit);
  for (std::int64_t p = 0; p < config.proj_dim; ++p) {
    gradients.projector_bias[p] += dprojected[p];
    for (std::int64_t m = 0; m < config.model_dim; ++m) {
      gradients.projector_weight[p * config.model_dim + m] += dprojected[p] * x[m];
      dx[m] += dprojected[p] * parameters.projector_weight[p * config.model_dim + m];
    }
  }
}

void linear_backward_token(const ReferenceLayerView& layer, const double* x, const double* dlogits,
                           ReferenceParameters& gradients, double* dx) {
  const auto& [config, parameters] = layer;
  for (std::int64_t expert = 0; expert < config.num_experts; ++expert) {
    for (std::int64_t m = 0; m < config.model_dim; ++m) {
      gradients.gate_weight[expert * config.model_dim + m] += dlogits[expert] * x[m];
      dx[m] += dlogits[expert] * parameters.gate_weight[expert * config.model_dim + m];
    }
  }
}

}  // namespace

std::vector<double> gate_logits(const ReferenceLayerView& layer, const std::vector<double>& x) {
  const auto& [config, parameters] = layer;
  const std::int64_t num_tokens = std::ssize(x) / config.model_dim;
  std::vector<double> logits(num_tokens * config.num_experts);
  const double scale = config.gate == ReferenceGate::kCosine
                           ? std::exp(std::min(parameters.temperature[0], kMaxTemperature))
                           : 1.0;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const double* row = &x[token * config.model_dim];
    double* row_logits = &logits[token * config.num_experts];
    if (config.gate == ReferenceGate::kLinear) {
      for (std::int64_t expert = 0; expert < config.num_experts; ++expert) {
        row_logits[expert] = dot(row, &parameters.gate_weight[expert * config.model_dim], config.model_dim);
      }
      continue;
    }
    const std::vector<double> token_unit = normalized(project(layer, row));
    for (std::int64_t expert = 0; expert < config.num_experts; ++expert) {
      const std::vector<double> expert_unit =
          normalized(column(parameters.sim_matrix, config.proj_dim, config.num_experts, expert));
      row_logits[expert] = scale * dot(token_unit.data(), expert_unit.data(), config.proj_dim);
    }
  }
  return logits;
}

void gate_backward(const ReferenceLayerView& layer, const std::vector<double>& x,
                   const std::vector<double>& dlogits, ReferenceParameters& gradients,
                   std::vector<double>& dx) {
  const ReferenceConfig& config = layer.config;
  const std::int64_t num_tokens = std::ssize(x) / config.model_dim;
  const auto backward_token =
      config.gate == ReferenceGate::kLinear ? linear_backward_token : cosine_backward_token;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    backward_token(layer, &x[token * config.model_dim], &dlogits[token * config.num_experts], gradients,
                   &dx[token * config.model_dim]);
  }
}

std::vector<double> softmax_rows(const std::vector<double>& logits, std::int64_t num_experts) {
  std::vector<double> scores(logits.size());
  for (std::int64_t begin = 0; begin < std::ssize(logits); begin += num_experts) {
    const double largest = *std::max_element(&logits[begin], &logits[begin] + num_experts);
    double sum = 0.0;
    for (std::int64_t e = 0; e < num_experts; ++e) sum += std::exp(logits[begin + e] - largest);
    for (std::int64_t e = 0; e < num_experts; ++e)
      scores[begin + e] = std::exp(logits[begin + e] - largest) / sum;
  }
  return scores;
}

void softmax_backward_rows(const std::vector<double>& scores, const std::vector<double>& dscores,
                           std::int64_t num_experts, std::vector<double>& dlogits) {
  for (std::int64_t begin = 0; begin < std::ssize(scores); begin += num_experts) {
    const double mean = dot(&scores[begin], &dscores[begin], num_experts);
    for (std::int64_t e = 0; e < num_experts; ++e) {
      dlogits[begin + e] += scores[begin + e] * (dscores[begin + e] - mean);
    }
  }
}

}  // namespace flex::testing
