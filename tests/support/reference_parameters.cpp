#include <cmath>
#include <numbers>

#include "base/philox.h"
#include "tests/support/reference_layer.h"

namespace flex::testing {
namespace {

void fill(std::vector<double>& values, PhiloxStream random) {
  for (double& value : values) value = 2.0 * random.uniform() - 1.0;
}

}  // namespace

std::vector<std::pair<std::string, std::vector<double>*>> list_parameters(ReferenceParameters& parameters) {
  return {{"gate_weight", &parameters.gate_weight},
          {"projector_weight", &parameters.projector_weight},
          {"projector_bias", &parameters.projector_bias},
          {"sim_matrix", &parameters.sim_matrix},
          {"temperature", &parameters.temperature},
          {"fc1_w", &parameters.fc1_w},
          {"fc1_bias", &parameters.fc1_bias},
          {"fc2_w", &parameters.fc2_w},
          {"fc2_bias", &parameters.fc2_bias},
          {"w1", &parameters.w1},
          {"w2", &parameters.w2},
          {"w3", &parameters.w3}};
}

ReferenceParameters zero_parameters(const ReferenceConfig& config) {
  ReferenceParameters zeros;
  if (config.gate == ReferenceGate::kLinear) {
    zeros.gate_weight.resize(config.num_experts * config.model_dim);
  } else {
    zeros.projector_weight.resize(config.proj_dim * config.model_dim);
    zeros.projector_bias.resize(config.proj_dim);
    zeros.sim_matrix.resize(config.proj_dim * config.num_experts);
    zeros.temperature.resize(1);
  }
  const std::int64_t matrix_size = config.num_experts * config.hidden_dim * config.model_dim;
  if (config.gated) {
    zeros.w1.resize(matrix_size);
    zeros.w2.resize(matrix_size);
    zeros.w3.resize(matrix_size);
  } else {
    zeros.fc1_w.resize(matrix_size);
    zeros.fc1_bias.resize(config.num_experts * config.hidden_dim);
    zeros.fc2_w.resize(matrix_size);
    if (config.has_fc2_bias) zeros.fc2_bias.resize(config.num_experts * config.model_dim);
  }
  return zeros;
}

ReferenceParameters random_parameters(const ReferenceConfig& config, std::uint64_t seed) {
  ReferenceParameters parameters = zero_parameters(config);
  std::uint64_t stream = 1;  // random_values draws from stream 0
  for (const auto& [name, values] : list_parameters(parameters)) {
    fill(*values, PhiloxStream(seed, stream++));
  }
  const double model_scale = 1.0 / std::sqrt(static_cast<double>(config.model_dim));
  const double hidden_scale = 1.0 / std::sqrt(static_cast<double>(config.hidden_dim));
  for (auto* values : {&parameters.fc1_w, &parameters.w1, &parameters.w2}) {
    for (double& value : *values) value *= model_scale;
  }
  for (auto* values : {&parameters.fc2_w, &parameters.w3}) {
    for (double& value : *values) value *= hidden_scale;
  }
  for (double& value : parameters.temperature) value = std::numbers::ln2;
  return parameters;
}

std::vector<double> random_values(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values(count);
  fill(values, PhiloxStream(seed));
  return values;
}

}  // namespace flex::testing
