#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/moe/gate_loss.h"
#include "tests/support/tensors.h"

/// Gate losses of one set of logits, for the tests of both passes.
namespace flex::testing {

inline std::vector<double> softmax_of(const std::vector<double>& logits, std::int64_t experts) {
  std::vector<double> result(logits.size());
  for (std::size_t begin = 0; begin < logits.size(); begin += experts) {
    double sum = 0.0;
    for (std::size_t i = begin; i < begin + experts; ++i) sum += std::exp(logits[i]);
    for (std::size_t i = begin; i < begin + experts; ++i) result[i] = std::exp(logits[i]) / sum;
  }
  return result;
}

/// Experts of the k largest logits of each token.
inline std::vector<double> top_k_of(const std::vector<double>& logits, std::int64_t experts,
                                    std::int64_t top_k) {
  std::vector<double> indices;
  for (std::size_t begin = 0; begin < logits.size(); begin += experts) {
    std::vector<std::int64_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return logits[begin + a] > logits[begin + b]; });
    for (std::int64_t j = 0; j < top_k; ++j) indices.push_back(static_cast<double>(order[j]));
  }
  return indices;
}

/// T tokens, E experts, k choices: clean logits, what noise adds, and the choices, in doubles.
struct LossInputs {
  std::int64_t tokens, experts, top_k;
  std::vector<double> clean, noise, indices;

  [[nodiscard]] std::vector<double> noisy() const {
    std::vector<double> sum(clean);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += noise[i];
    return sum;
  }
  /// Tokens [begin, end), as another rank would hold them.
  [[nodiscard]] LossInputs slice(std::int64_t begin, std::int64_t end) const {
    const auto part = [&](const std::vector<double>& all, std::int64_t width) {
      return std::vector<double>(all.begin() + begin * width, all.begin() + end * width);
    };
    return {end - begin, experts, top_k, part(clean, experts), part(noise, experts), part(indices, top_k)};
  }
};

/// Random logits of order 1 with noise of a third of that.
inline LossInputs random_loss_inputs(std::int64_t tokens, std::int64_t experts, std::int64_t top_k,
                                     std::uint64_t seed) {
  LossInputs inputs = {.tokens = tokens,
                       .experts = experts,
                       .top_k = top_k,
                       .clean = random_uniform(tokens * experts, seed),
                       .noise = random_uniform(tokens * experts, seed + 1, -0.3, 0.3),
                       .indices = {}};
  inputs.indices = top_k_of(inputs.noisy(), experts, top_k);
  return inputs;
}

/// The kernels' tensors of the inputs.
struct LossTensors {
  Tensor scores, clean, noisy, indices, sums, value, workspace;

  LossTensors(const LossInputs& in, DType dtype, Device device)
      : scores(make_tensor({in.tokens, in.experts}, softmax_of(in.noisy(), in.experts), dtype, device)),
        clean(make_tensor({in.tokens, in.experts}, in.clean, dtype, device)),
        noisy(make_tensor({in.tokens, in.experts}, in.noisy(), dtype, device)),
        indices(make_tensor({in.tokens, in.top_k}, in.indices, DType::kI32, device)),
        sums(poisoned_tensor({gate_loss_num_sums(in.experts)}, DType::kF64, device)),
        value(poisoned_tensor({1}, dtype, device)),
        workspace(poisoned_tensor({gate_loss_workspace_bytes(in.tokens, in.experts, device)}, DType::kU8,
                                  device)) {}

  void run_sums(const GateLossSettings& settings, Stream& stream) {
    gate_loss_sums({.settings = settings,
                    .scores = scores,
                    .clean = clean,
                    .noisy = noisy,
                    .indices = indices,
                    .sums = sums,
                    .workspace = workspace},
                   stream);
    stream.synchronize_blocking();
  }
  double run_value(const GateLossSettings& settings, Stream& stream) {
    gate_loss_value({.settings = settings, .sums = sums, .value = value}, stream);
    stream.synchronize_blocking();
    return values_of(value)[0];
  }
  /// The gradient, added to what `dlogits` holds.
  void run_backward(const GateLossSettings& settings, double dvalue, Tensor& dlogits, Stream& stream) {
    gate_loss_backward({.settings = settings,
                        .scores = scores,
                        .clean = clean,
                        .noisy = noisy,
                        .indices = indices,
                        .sums = sums,
                        .dvalue = dvalue,
                        .dlogits = dlogits},
                       stream);
    stream.synchronize_blocking();
  }
};

inline const std::vector<GateLossSettings> kLossVariants = {
    {.kind = GateLossKind::kGshard},
    {.kind = GateLossKind::kLoadImportance, .gate_noise = 1.5},
    {.kind = GateLossKind::kLoadImportanceReleased, .gate_noise = 1.5},
    {.kind = GateLossKind::kNone, .z_loss_weight = 0.3},
    {.kind = GateLossKind::kGshard, .z_loss_weight = 0.1},
    {.kind = GateLossKind::kLoadImportance, .gate_noise = 0.7, .z_loss_weight = 0.2},
    {.kind = GateLossKind::kNone}};

inline std::string describe(const GateLossSettings& settings, const LossInputs& in) {
  return std::string(name(settings.kind)) + " of " + to_string(Shape{in.tokens, in.experts, in.top_k});
}

}  // namespace flex::testing
