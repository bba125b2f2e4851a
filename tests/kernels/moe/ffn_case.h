#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/moe/expert_ffn.h"
#include "tests/support/compare.h"
#include "tests/support/tensors.h"
#include "tests/support/test_gemm.h"

/// One expert_ffn problem with all its tensors, for the tests of both passes.
namespace flex::testing {

/// L experts, R rows each, M model dim, F hidden columns.
struct FfnSizes {
  std::int64_t experts, rows, model_dim, hidden_dim;
};

/// What the experts compute.
struct FfnVariant {
  FfnKind kind = FfnKind::kStandard;
  Activation activation = Activation::kGelu;
  bool biases = true;
};

inline const std::vector<FfnVariant> kFfnVariants = {{FfnKind::kStandard, Activation::kGelu, true},
                                                     {FfnKind::kStandard, Activation::kRelu, true},
                                                     {FfnKind::kStandard, Activation::kSilu, true},
                                                     {FfnKind::kStandard, Activation::kGelu, false},
                                                     {FfnKind::kGated, Activation::kRelu, false}};

inline const std::vector<FfnSizes> kFfnSizes = {{1, 1, 1, 1},    {3, 0, 4, 5},    {2, 3, 4, 0},
                                                {0, 3, 4, 5},    {2, 1, 7, 3},    {5, 13, 9, 21},
                                                {3, 37, 33, 65}, {2, 64, 96, 192}};

inline std::string describe(const FfnVariant& variant, const FfnSizes& s) {
  return std::string(name(variant.kind)) + " " + std::string(name(variant.activation)) + " of " +
         to_string(Shape{s.experts, s.rows, s.model_dim, s.hidden_dim});
}

/// Relative tolerance of y and of gradients through both products. An error d of the inner terms, of `inner`
/// products each, moves a sum of `outer` terms by at most d sum |terms|, which is about d sqrt(outer) of the
/// largest sum; the activation and its slope (of at most 1.13) add their rounding, and an element that is
/// stored between the products its own.
inline double ffn_tolerance(DType dtype, std::int64_t inner, std::int64_t outer) {
  const double inner_error = 1.13 * product_tolerance(dtype, inner) + 4.0 * unit_roundoff(dtype);
  return inner_error * std::sqrt(static_cast<double>(outer + 1)) + product_tolerance(dtype, outer);
}

struct FfnCase {
  FfnVariant variant;
  Tensor x, dy;
  Tensor fc1_w, up_w, fc2_w, fc1_bias, fc2_bias;
  Tensor hidden, up, activated, y;
  Tensor dhidden, dup, dx;
  Tensor dfc1_w, dup_w, dfc2_w, dfc1_bias, dfc2_bias;

  /// Inputs are the same for every device, rounded to `dtype`, and outputs are poisoned. (With these seeds,
  /// the case of one element does not fall near the zero of an activation's slope, where its relative error
  /// has no bound.)
  FfnCase(const FfnVariant& variant_in, const FfnSizes& s, DType dtype, Device device) : variant(variant_in) {
    const auto input = [&](Shape shape, std::uint64_t seed, double scale = 1.0) {
      return random_tensor(shape, seed, dtype, device, -scale, scale);
    };
    const auto output = [&](Shape shape) { return poisoned_tensor(shape, dtype, device); };
    const Shape rows = {s.experts, s.rows, s.model_dim};
    const Shape inner = {s.experts, s.rows, s.hidden_dim};
    const Shape matrix = {s.experts, s.hidden_dim, s.model_dim};
    const double scale = 2.0 / std::sqrt(static_cast<double>(s.model_dim));  // pre-activations of order 1
    x = input(rows, 21);
    dy = input(rows, 22);
    fc1_w = input(matrix, 23, scale);
    fc2_w = input(matrix, 24);
    hidden = output(inner);
    activated = output(inner);
    y = output(rows);
    dhidden = output(inner);
    dx = output(rows);
    dfc1_w = output(matrix);
    dfc2_w = output(matrix);
    if (variant.kind == FfnKind::kGated) {
      up_w = input(matrix, 25, scale);
      up = output(inner);
      dup = output(inner);
      dup_w = output(matrix);
    }
    if (variant.biases) {
      fc1_bias = input({s.experts, s.hidden_dim}, 26);
      fc2_bias = input({s.experts, s.model_dim}, 27);
      dfc1_bias = output({s.experts, s.hidden_dim});
      dfc2_bias = output({s.experts, s.model_dim});
    }
  }

  /// Rounds the inputs to `narrower` as well, so that two cases of different types compute with equal
  /// numbers.
  void round_inputs_to(DType narrower) {
    for (Tensor* tensor : {&x, &dy, &fc1_w, &up_w, &fc2_w, &fc1_bias, &fc2_bias}) {
      if (tensor->shape().rank() == 0) continue;
      assign(*tensor, values_of(make_tensor(tensor->shape(), values_of(*tensor), narrower)));
    }
  }

  [[nodiscard]] ExpertParameters<ConstTensorView> weights() const {
    return {.fc1_w = fc1_w, .up_w = up_w, .fc2_w = fc2_w, .fc1_bias = fc1_bias, .fc2_bias = fc2_bias};
  }
  [[nodiscard]] ExpertFfnArgs forward() {
    return {.kind = variant.kind,
            .activation = variant.activation,
            .weights = weights(),
            .x = x,
            .hidden = hidden,
            .up = up,
            .activated = activated,
            .y = y,
            .gemm = test_gemm(x.device())};
  }
  [[nodiscard]] ExpertFfnBackwardDataArgs backward_data() {
    return {.kind = variant.kind,
            .activation = variant.activation,
            .weights = weights(),
            .dy = dy,
            .hidden = hidden,
            .up = up,
            .dhidden = dhidden,
            .dup = dup,
            .dx = dx,
            .gemm = test_gemm(x.device())};
  }
  [[nodiscard]] ExpertFfnBackwardWeightsArgs backward_weights() {
    return {.kind = variant.kind,
            .activation = variant.activation,
            .x = x,
            .dhidden = dhidden,
            .dup = dup,
            .hidden = hidden,
            .up = up,
            .dy = dy,
            .activated = activated,
            .gradients = {.fc1_w = dfc1_w,
                          .up_w = dup_w,
                          .fc2_w = dfc2_w,
                          .fc1_bias = dfc1_bias,
                          .fc2_bias = dfc2_bias},
            .gemm = test_gemm(x.device())};
  }

  /// Gradients in the memory of what they are gradients of: dhidden over hidden, dup over up, dx over dy.
  [[nodiscard]] ExpertFfnBackwardDataArgs backward_data_in_place(Tensor& tile) {
    ExpertFfnBackwardDataArgs args = backward_data();
    args.dhidden = hidden;
    args.dup = up;
    args.dx = dy;
    args.tile = tile;
    return args;
  }
  [[nodiscard]] ExpertFfnBackwardWeightsArgs backward_weights_in_place() {
    ExpertFfnBackwardWeightsArgs args = backward_weights();
    args.dhidden = hidden;
    args.dup = up;
    return args;
  }
};

/// The gradients of both layers' weights, where dhidden is not hidden's memory.
inline void expert_ffn_backward_weights(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  expert_ffn_backward_fc1(args, stream);
  expert_ffn_backward_fc2(args, stream);
}

}  // namespace flex::testing
