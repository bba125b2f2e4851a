#include "bench/ffn_problem.h"

#include <algorithm>
#include <cmath>

#include "kernels/gemm_scratch.h"
#include "kernels/moe/expert_products.h"
#include "tests/support/compare.h"
#include "tests/support/tensors.h"

namespace flex::bench {
namespace {

// One expert's part of a tensor, as doubles.
std::vector<double> expert_values(const Tensor& tensor, std::int64_t expert) {
  const ConstTensorView view = tensor;
  const Shape shape = view.shape.rank() == 2 ? Shape{view.size(1)} : Shape{view.size(1), view.size(2)};
  const auto* begin = view.as<char>() + expert * view.outer_stride * size_bytes(view.dtype);
  return testing::values_of(ConstTensorView(begin, view.dtype, shape, view.device));
}

}  // namespace

FfnProblem::FfnProblem(const FfnShape& shape, DType dtype, GemmAlgorithms& gemm, Stream& stream)
    : shape_(shape), dtype_(dtype), gemm_(gemm) {
  std::uint64_t seed = 0;
  const auto input = [&](Shape extents) {
    constexpr std::uint64_t kSeedStep = std::uint64_t{1} << 40;  // more than a tensor has elements
    Tensor tensor(dtype, extents, stream.device());
    seed += kSeedStep;
    fill_uniform_cuda(tensor.view().data, dtype, tensor.num_elements(), seed, stream.native());
    return tensor;
  };
  const auto output = [&](Shape extents) { return Tensor(dtype, extents, stream.device()); };
  const auto& [l, r, m, f] = shape_;
  x_ = input({l, r, m});
  dy_ = input({l, r, m});
  fc1_w_ = input({l, f, m});
  fc2_w_ = input({l, f, m});
  fc1_bias_ = input({l, f});
  fc2_bias_ = input({l, m});
  hidden_ = output({l, r, f});
  y_ = output({l, r, m});
  dhidden_ = output({l, r, f});
  dx_ = output({l, r, m});
  dfc1_w_ = output({l, f, m});
  dfc2_w_ = output({l, f, m});
  dfc1_bias_ = output({l, f});
  dfc2_bias_ = output({l, m});
}

ExpertFfnArgs FfnProblem::forward() {
  return {.activation = Activation::kRelu,
          .weights = {.fc1_w = fc1_w_, .fc2_w = fc2_w_, .fc1_bias = fc1_bias_, .fc2_bias = fc2_bias_},
          .x = x_,
          .hidden = hidden_,
          .y = y_,
          .gemm = &gemm_};
}

ExpertFfnBackwardDataArgs FfnProblem::backward_data() {
  return {.activation = Activation::kRelu,
          .weights = {.fc1_w = fc1_w_, .fc2_w = fc2_w_, .fc1_bias = fc1_bias_, .fc2_bias = fc2_bias_},
          .dy = dy_,
          .hidden = hidden_,
          .dhidden = dhidden_,
          .dx = dx_,
          .gemm = &gemm_};
}

ExpertFfnBackwardWeightsArgs FfnProblem::backward_weights() {
  return {.activation = Activation::kRelu,
          .x = x_,
          .dhidden = dhidden_,
          .hidden = hidden_,
          .dy = dy_,
          .gradients = {.fc1_w = dfc1_w_, .fc2_w = dfc2_w_, .fc1_bias = dfc1_bias_, .fc2_bias = dfc2_bias_},
          .gemm = &gemm_};
}

std::array<GemmCall, 2> FfnProblem::plain_products() {
  return {batched_call({.a = x_, .b = fc1_w_, .transpose_b = true, .d = hidden_}),
          batched_call({.a = hidden_, .b = fc2_w_, .d = y_})};
}

std::vector<GemmCall> FfnProblem::all_products() {
  return {batched_call({.a = x_, .b = fc1_w_, .transpose_b = true, .d = hidden_}),
          batched_call({.a = hidden_, .b = fc2_w_, .d = y_}),
          batched_call({.a = dy_, .b = fc2_w_, .transpose_b = true, .d = dhidden_}),
          batched_call({.a = dhidden_, .b = fc1_w_, .d = dx_}),
          batched_call({.a = dhidden_, .b = x_, .transpose_a = true, .d = dfc1_w_}),
          batched_call({.a = hidden_, .b = dy_, .transpose_a = true, .d = dfc2_w_})};
}

double FfnProblem::forward_error(const std::vector<std::int64_t>& rows_per_expert) const {
  const auto& [l, r, m, f] = shape_;
  // The fullest expert's first and last row.
  const auto fullest = std::max_element(rows_per_expert.begin(), rows_per_expert.end());
  if (*fullest == 0) return 0.0;
  const std::int64_t expert = fullest - rows_per_expert.begin();
  const std::vector<double> x = expert_values(x_, expert);
  const std::vector<double> fc1_w = expert_values(fc1_w_, expert);
  const std::vector<double> fc2_w = expert_values(fc2_w_, expert);
  const std::vector<double> fc1_bias = expert_values(fc1_bias_, expert);
  const std::vector<double> fc2_bias = expert_values(fc2_bias_, expert);
  const std::vector<double> y = expert_values(y_, expert);
  std::vector<double> actual;
  std::vector<double> expected;
  for (const std::int64_t row : {std::int64_t{0}, *fullest - 1}) {
    std::vector<double> sums = fc2_bias;
    for (std::int64_t h = 0; h < f; ++h) {
      double hidden = fc1_bias[h];
      for (std::int64_t c = 0; c < m; ++c) hidden += x[row * m + c] * fc1_w[h * m + c];
      if (hidden <= 0.0) continue;
      for (std::int64_t c = 0; c < m; ++c) sums[c] += hidden * fc2_w[h * m + c];
    }
    expected.insert(expected.end(), sums.begin(), sums.end());
    actual.insert(actual.end(), y.begin() + row * m, y.begin() + (row + 1) * m);
  }
  return testing::max_relative_error(actual, expected);
}

double FfnProblem::error_limit() const {
  // Operands, hidden rows and results are rounded once each, and add up like noise; so do the roundings of
  // the fp32 sum, at most about 8 times the last place of the largest result each.
  const bool tf32 = dtype_ == DType::kF32 && gemm_.options().allow_tf32;
  const double rounding = testing::unit_roundoff(tf32 ? DType::kF16 : dtype_);  // TF32 has fp16's fraction
  const double terms = std::sqrt(static_cast<double>(shape_.hidden_dim));
  return 4.0 * rounding + 8.0 * terms * testing::unit_roundoff(DType::kF32);
}

double FfnProblem::forward_flop() const {
  const auto& [l, r, m, f] = shape_;
  return 4.0 * static_cast<double>(l) * static_cast<double>(r) * static_cast<double>(m) *
         static_cast<double>(f);
}

}  // namespace flex::bench
