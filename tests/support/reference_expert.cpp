#include "tests/support/reference_expert.h"

#include <cmath>
#include <numbers>

namespace flex::testing {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double activate(ReferenceActivation activation, double x) {
  switch (activation) {
    case ReferenceActivation::kGelu:
      return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
    case ReferenceActivation::kRelu:
      return x > 0.0 ? x : 0.0;
    case ReferenceActivation::kSilu:
      return x * sigmoid(x);
  }
  return 0.0;
}

double activation_slope(ReferenceActivation activation, double x) {
  switch (activation) {
    case ReferenceActivation::kGelu:
      return 0.5 * (1.0 + std::erf(x / std::numbers::sqrt2)) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    case ReferenceActivation::kRelu:
      return x > 0.0 ? 1.0 : 0.0;
    case ReferenceActivation::kSilu:
      return sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
  }
  return 0.0;
}

/// Row `hidden` of an expert's (H, M) matrix times a row vector of M.
double row_dot(const std::vector<double>& matrix, std::int64_t row, const std::vector<double>& vector) {
  double sum = 0.0;
  const std::int64_t size = std::ssize(vector);
  for (std::int64_t m = 0; m < size; ++m) sum += matrix[row * size + m] * vector[m];
  return sum;
}

/// Adds factor * vector to row `row` of a matrix.
void add_to_row(std::vector<double>& matrix, std::int64_t row, double factor,
                const std::vector<double>& vector) {
  const std::int64_t size = std::ssize(vector);
  for (std::int64_t m = 0; m < size; ++m) matrix[row * size + m] += factor * vector[m];
}

/// Adds factor * (row `row` of a matrix) to a vector.
void add_row(std::vector<double>& vector, double factor, const std::vector<double>& matrix,
             std::int64_t row) {
  const std::int64_t size = std::ssize(vector);
  for (std::int64_t m = 0; m < size; ++m) vector[m] += factor * matrix[row * size + m];
}

}  // namespace

std::vector<double> expert_forward(const ReferenceLayerView& layer, std::int64_t expert,
                                   const std::vector<double>& input) {
  const auto& [config, parameters] = layer;
  std::vector<double> output(config.model_dim, 0.0);
  if (!config.gated && config.has_fc2_bias) add_row(output, 1.0, parameters.fc2_bias, expert);
  for (std::int64_t h = 0; h < config.hidden_dim; ++h) {
    const std::int64_t row = expert * config.hidden_dim + h;
    if (config.gated) {
      const double hidden = activate(ReferenceActivation::kSilu, row_dot(parameters.w1, row, input)) *
                            row_dot(parameters.w2, row, input);
      add_row(output, hidden, parameters.w3, row);
    } else {
      const double before = row_dot(parameters.fc1_w, row, input) + parameters.fc1_bias[row];
      add_row(output, activate(config.activation, before), parameters.fc2_w, row);
    }
  }
  return output;
}

std::vector<double> expert_backward(const ReferenceLayerView& layer, std::int64_t expert,
                                    const std::vector<double>& input, const std::vector<double>& doutput,
                                    ReferenceParameters& gradients) {
  const auto& [config, parameters] = layer;
  std::vector<double> dinput(config.model_dim, 0.0);
  if (!config.gated && config.has_fc2_bias) add_to_row(gradients.fc2_bias, expert, 1.0, doutput);
  for (std::int64_t h = 0; h < config.hidden_dim; ++h) {
    const std::int64_t row = expert * config.hidden_dim + h;
    if (config.gated) {
      const double before = row_dot(parameters.w1, row, input);
      const double linear = row_dot(parameters.w2, row, input);
      const double silu = activate(ReferenceActivation::kSilu, before);
      add_to_row(gradients.w3, row, silu * linear, doutput);
      const double dhidden = row_dot(parameters.w3, row, doutput);
      const double dbefore = dhidden * linear * activation_slope(ReferenceActivation::kSilu, before);
      const double dlinear = dhidden * silu;
      add_to_row(gradients.w1, row, dbefore, input);
      add_to_row(gradients.w2, row, dlinear, input);
      add_row(dinput, dbefore, parameters.w1, row);
      add_row(dinput, dlinear, parameters.w2, row);
    } else {
      const double before = row_dot(parameters.fc1_w, row, input) + parameters.fc1_bias[row];
      add_to_row(gradients.fc2_w, row, activate(config.activation, before), doutput);
      const double dbefore =
          row_dot(parameters.fc2_w, row, doutput) * activation_slope(config.activation, before);
      add_to_row(gradients.fc1_w, row, dbefore, input);
      gradients.fc1_bias[row] += dbefore;
      add_row(dinput, dbefore, parameters.fc1_w, row);
    }
  }
  return dinput;
}

}  // namespace flex::testing
