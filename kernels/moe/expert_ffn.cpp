#include "kernels/moe/expert_ffn.h"

#include <algorithm>
#include <array>

#include "kernels/check.h"
#include "kernels/gemm_check.h"
#include "kernels/moe/expert_ffn_check.h"

namespace flex {
namespace {

// L experts, R rows, M model dim, F hidden columns of one call.
struct FfnSizes {
  std::int64_t experts;
  std::int64_t rows;
  std::int64_t model_dim;
  std::int64_t hidden_dim;
};

// The optional parts: what a gated expert must and must not have, and biases.
template <class View>
void check_first_layer(const ArgumentCheck& check, FfnKind kind, const ExpertParameters<View>& weights,
                       DType dtype, const FfnSizes& sizes) {
  const Shape matrix = {sizes.experts, sizes.hidden_dim, sizes.model_dim};
  check.strided("fc1_w", weights.fc1_w, dtype, matrix);
  if (kind == FfnKind::kGated) {
    check.strided("up_w", weights.up_w, dtype, matrix);
    check.require_absent("fc1_bias", weights.fc1_bias, "in gated experts");
    return;
  }
  check.require_absent("up_w", weights.up_w, "in standard experts");
  if (weights.fc1_bias.present()) {
    check.strided("fc1_bias", weights.fc1_bias, dtype, {sizes.experts, sizes.hidden_dim});
  }
}

template <class View>
void check_second_layer(const ArgumentCheck& check, FfnKind kind, const ExpertParameters<View>& weights,
                        std::int64_t fc2_bias_begin, DType dtype, const FfnSizes& sizes) {
  check.strided("fc2_w", weights.fc2_w, dtype, {sizes.experts, sizes.hidden_dim, sizes.model_dim});
  if (kind == FfnKind::kGated) {
    check.require_absent("fc2_bias", weights.fc2_bias, "in gated experts");
    return;
  }
  if (weights.fc2_bias.present()) {
    check.strided("fc2_bias", weights.fc2_bias, dtype, {sizes.experts, weights.fc2_bias.size(1)});
    require(fc2_bias_begin >= 0, "{}: fc2_bias_begin is {}, expected 0 or more", check.kernel(),
            fc2_bias_begin);
  }
}

template <class View>
void check_parameters(const ArgumentCheck& check, FfnKind kind, const ExpertParameters<View>& weights,
                      std::int64_t fc2_bias_begin, DType dtype, const FfnSizes& sizes) {
  check_first_layer(check, kind, weights, dtype, sizes);
  check_second_layer(check, kind, weights, fc2_bias_begin, dtype, sizes);
}

// Rows of scratch, without which the gradient of `hidden` needs memory of its own.
void check_tile(const ArgumentCheck& check, const ExpertFfnBackwardDataArgs& args, const FfnSizes& sizes) {
  if (args.tile.present()) {
    const std::int64_t rows = args.tile.shape.rank() == 3 ? args.tile.size(1) : 0;
    check.strided("tile", args.tile, args.dy.dtype,
                  {sizes.experts, std::max<std::int64_t>(rows, 1), sizes.hidden_dim});
  } else {
    require(args.dhidden.data != args.hidden.data || args.hidden.num_elements() == 0,
            "{}: dhidden is the memory of hidden, which needs a tile", check.kernel());
  }
}

void check_up(const ArgumentCheck& check, FfnKind kind, std::string_view argument,
              const ConstTensorView& view, DType dtype, const FfnSizes& sizes) {
  if (kind == FfnKind::kGated) {
    check.strided(argument, view, dtype, {sizes.experts, sizes.rows, sizes.hidden_dim});
  } else {
    check.require_absent(argument, view, "in standard experts");
  }
}

// `activated`, which has no use where hidden rows are kept as activated ones.
void check_activated(const ArgumentCheck& check, FfnKind kind, Activation activation,
                     const ConstTensorView& view, DType dtype, const Shape& hidden) {
  if (keeps_activated(kind, activation) && !view.present()) return;
  check.strided("activated", view, dtype, hidden);
}

constexpr std::array kActivations = {Activation::kGelu, Activation::kRelu, Activation::kSilu};
constexpr std::array kFfnKinds = {FfnKind::kStandard, FfnKind::kGated};

}  // namespace

void check_expert_ffn(std::string_view kernel, const ExpertFfnArgs& args, Device device) {
  const ArgumentCheck check(kernel, device);
  const DType dtype = args.x.dtype;
  const FfnSizes sizes = {args.x.size(0), args.x.size(1), args.x.size(2), args.weights.fc1_w.size(1)};
  const Shape rows = {sizes.experts, sizes.rows, sizes.model_dim};
  const Shape hidden = {sizes.experts, sizes.rows, sizes.hidden_dim};
  check.require_compute_dtype("x", dtype);
  check.strided("x", args.x, dtype, rows);
  check_parameters(check, args.kind, args.weights, args.fc2_bias_begin, dtype, sizes);
  check.strided("hidden", args.hidden, dtype, hidden);
  check_activated(check, args.kind, args.activation, args.activated, dtype, hidden);
  check_up(check, args.kind, "up", args.up, dtype, sizes);
  check.strided("y", args.y, dtype, rows);
  require_gemm(check, args.gemm, device);
}

void check_expert_ffn(std::string_view kernel, const ExpertFfnBackwardDataArgs& args, Device device) {
  const ArgumentCheck check(kernel, device);
  const DType dtype = args.dy.dtype;
  const FfnSizes sizes = {args.dy.size(0), args.dy.size(1), args.dy.size(2), args.weights.fc1_w.size(1)};
  const Shape rows = {sizes.experts, sizes.rows, sizes.model_dim};
  const Shape hidden = {sizes.experts, sizes.rows, sizes.hidden_dim};
  check.require_compute_dtype("dy", dtype);
  check.strided("dy", args.dy, dtype, rows);
  check_parameters(check, args.kind, args.weights, 0, dtype, sizes);
  check.strided("hidden", args.hidden, dtype, hidden);
  check.strided("dhidden", args.dhidden, dtype, hidden);
  check_up(check, args.kind, "up", args.up, dtype, sizes);
  check_up(check, args.kind, "dup", args.dup, dtype, sizes);
  check.strided("dx", args.dx, dtype, rows);
  check_tile(check, args, sizes);
  require_gemm(check, args.gemm, device);
}

void check_expert_ffn_fc1(std::string_view kernel, const ExpertFfnBackwardWeightsArgs& args, Device device) {
  const ArgumentCheck check(kernel, device);
  const DType dtype = args.x.dtype;
  const auto& gradients = args.gradients;
  const FfnSizes sizes = {args.x.size(0), args.x.size(1), args.x.size(2), gradients.fc1_w.size(1)};
  check.require_compute_dtype("x", dtype);
  check.strided("x", args.x, dtype, {sizes.experts, sizes.rows, sizes.model_dim});
  check_first_layer(check, args.kind, gradients, dtype, sizes);
  check.strided("dhidden", args.dhidden, dtype, {sizes.experts, sizes.rows, sizes.hidden_dim});
  check_up(check, args.kind, "dup", args.dup, dtype, sizes);
  require_gemm(check, args.gemm, device);
}

void check_expert_ffn_fc2(std::string_view kernel, const ExpertFfnBackwardWeightsArgs& args, Device device) {
  const ArgumentCheck check(kernel, device);
  const DType dtype = args.dy.dtype;
  const auto& gradients = args.gradients;
  const FfnSizes sizes = {args.dy.size(0), args.dy.size(1), args.dy.size(2), gradients.fc2_w.size(1)};
  const Shape hidden = {sizes.experts, sizes.rows, sizes.hidden_dim};
  check.require_compute_dtype("dy", dtype);
  check.strided("dy", args.dy, dtype, {sizes.experts, sizes.rows, sizes.model_dim});
  check_second_layer(check, args.kind, gradients, args.fc2_bias_begin, dtype, sizes);
  check.strided("hidden", args.hidden, dtype, hidden);
  check_activated(check, args.kind, args.activation, args.activated, dtype, hidden);
  check_up(check, args.kind, "up", args.up, dtype, sizes);
  require_gemm(check, args.gemm, device);
}

std::string_view name(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return "gelu";
    case Activation::kRelu:
      return "relu";
    case Activation::kSilu:
      return "silu";
  }
  return "?";
}

std::optional<Activation> parse_activation(std::string_view text) {
  for (const Activation activation : kActivations) {
    if (name(activation) == text) return activation;
  }
  return std::nullopt;
}

std::string_view name(FfnKind kind) { return kind == FfnKind::kGated ? "gated" : "standard"; }

std::optional<FfnKind> parse_ffn_kind(std::string_view text) {
  for (const FfnKind kind : kFfnKinds) {
    if (name(kind) == text) return kind;
  }
  return std::nullopt;
}

void expert_ffn(const ExpertFfnArgs& args, Stream& stream) {
  check_expert_ffn("expert_ffn", args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { expert_ffn_cpu<T>(args); });
}

void expert_ffn_backward_data(const ExpertFfnBackwardDataArgs& args, Stream& stream) {
  check_expert_ffn("expert_ffn_backward_data", args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_backward_data_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { expert_ffn_backward_data_cpu<T>(args); });
}

void expert_ffn_backward_fc1(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  check_expert_ffn_fc1("expert_ffn_backward_fc1", args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_backward_fc1_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { expert_ffn_backward_fc1_cpu<T>(args); });
}

void expert_ffn_backward_fc2(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  check_expert_ffn_fc2("expert_ffn_backward_fc2", args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_backward_fc2_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { expert_ffn_backward_fc2_cpu<T>(args); });
}

}  // namespace flex
