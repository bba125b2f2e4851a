#include "runtime/layer_check.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/host_element.h"
#include "runtime/parallel_blocks.h"

namespace flex {
namespace {

Tensor on_host(const ConstTensorView& view) {
  Tensor host(view.dtype, view.shape);
  copy_blocking(host, view);
  return host;
}

double activate(Activation activation, double v) {
  switch (activation) {
    case Activation::kGelu:
      return v * std::erfc(-v / std::numbers::sqrt2) / 2;
    case Activation::kRelu:
      return std::max(v, 0.0);
    case Activation::kSilu:
      return v / (1 + std::exp(-v));
  }
  return v;
}

/// All experts of one rank, on the host.
class HostExperts {
 public:
  explicit HostExperts(MoeLayer& layer) : config_(layer.config()) {
    MoeParameters& parameters = layer.parameters();
    const auto copy_of = [&](std::string_view name) {
      Parameter* parameter = parameters.find(name);
      return parameter == nullptr ? Tensor() : on_host(parameter->value);
    };
    const bool gated = config_.ffn == FfnKind::kGated;
    fc1_w_ = copy_of(gated ? "experts.w1" : "experts.batched_fc1_w");
    up_w_ = copy_of("experts.w2");
    fc2_w_ = copy_of(gated ? "experts.w3" : "experts.batched_fc2_w");
    fc1_bias_ = copy_of("experts.batched_fc1_bias");
    fc2_bias_ = copy_of("experts.batched_fc2_bias");
  }

  // out += weight * expert(token), with `scale` on what the expert reads.
  void add(std::int64_t expert, const std::vector<double>& token, double scale, double weight,
           std::vector<double>& out) const {
    const std::int64_t m = config_.model_dim;
    const std::int64_t h = config_.hidden_dim;
    const Activation activation = activation_of(config_.ffn, config_.activation);
    const auto dot = [&](const Tensor& matrix, std::int64_t row) {
      double sum = 0;
      for (std::int64_t c = 0; c < m; ++c) sum += host_element(matrix, row * m + c) * token[index(c)];
      return scale * sum;
    };
    for (std::int64_t f = 0; f < h; ++f) {
      const std::int64_t row = expert * h + f;
      double hidden = dot(fc1_w_, row);
      if (fc1_bias_.num_elements() > 0) hidden += host_element(fc1_bias_, row);
      double value = activate(activation, hidden);
      if (config_.ffn == FfnKind::kGated) value *= dot(up_w_, row);
      if (value == 0) continue;
      for (std::int64_t c = 0; c < m; ++c)
        out[index(c)] += weight * value * host_element(fc2_w_, row * m + c);
    }
    if (fc2_bias_.num_elements() == 0) return;
    const std::int64_t stride = fc2_bias_.shape()[1];
    for (std::int64_t c = 0; c < m; ++c)
      out[index(c)] += weight * host_element(fc2_bias_, expert * stride + c);
  }

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  const MoeConfig& config_;
  Tensor fc1_w_, up_w_, fc2_w_, fc1_bias_, fc2_bias_;
};

}  // namespace

double sampled_output_error(MoeLayer& layer, const ConstTensorView& x, const ConstTensorView& y,
                            std::int64_t capacity, std::int64_t num_tokens) {
  const std::int64_t tokens = x.size(0);
  const std::int64_t m = x.size(1);
  const std::int64_t samples = std::min(num_tokens, tokens);
  if (samples == 0) return 0;
  const HostExperts experts(layer);
  const RoutingViews routing = layer.routing();
  const Tensor indices = on_host(routing.indices);
  const Tensor locations = on_host(routing.locations);
  const Tensor gates = on_host(routing.gates);
  const std::int64_t top_k = indices.shape()[1];
  std::vector<double> differences(static_cast<std::size_t>(samples));
  std::vector<double> norms(static_cast<std::size_t>(samples));
  for_each_block(samples, 1, [&](std::int64_t begin, std::int64_t /*end*/) {
    const std::int64_t token = begin * tokens / samples;
    const auto row_of = [&](const ConstTensorView& view) {
      return on_host(view.reshaped({tokens * m}).narrowed(token * m, m));
    };
    const Tensor row = row_of(x);
    const Tensor actual = row_of(y);
    std::vector<double> values(static_cast<std::size_t>(m));
    for (std::int64_t c = 0; c < m; ++c) values[static_cast<std::size_t>(c)] = host_element(row, c);
    std::vector<double> exact(static_cast<std::size_t>(m));
    for (std::int64_t choice = token * top_k; choice < (token + 1) * top_k; ++choice) {
      if (locations.as<std::int32_t>()[choice] >= capacity) continue;
      const double gate = host_element(gates, choice);
      const bool after = layer.config().is_postscore;
      experts.add(indices.as<std::int32_t>()[choice], values, after ? 1.0 : gate, after ? gate : 1.0, exact);
    }
    double difference = 0;
    double norm = 0;
    for (std::int64_t c = 0; c < m; ++c) {
      const double expected = exact[static_cast<std::size_t>(c)];
      difference += std::pow(host_element(actual, c) - expected, 2);
      norm += expected * expected;
    }
    differences[static_cast<std::size_t>(begin)] = difference;
    norms[static_cast<std::size_t>(begin)] = norm;
  });
  double difference = 0;
  double norm = 0;
  for (std::int64_t i = 0; i < samples; ++i) {
    difference += differences[static_cast<std::size_t>(i)];
    norm += norms[static_cast<std::size_t>(i)];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

}  // namespace flex
