#include "kernels/moe/expert_ffn.h"

#include <array>

#include "kernels/check.h"

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
void check_parameters(const ArgumentCheck& check, FfnKind kind, const ExpertParameters<View>& weights,
                      std::int64_t fc2_bias_begin, DType dtype, const FfnSizes& sizes) {
  const Shape matrix = {sizes.experts, sizes.hidden_dim, sizes.model_dim};
  check.strided("fc1_w", weights.fc1_w, dtype, matrix);
  check.strided("fc2_w", weights.fc2_w, dtype, matrix);
  if (kind == FfnKind::kGated) {
    check.strided("up_w", weights.up_w, dtype, matrix);
    check.require_absent("fc1_bias", weights.fc1_bias, "in gated experts");
    check.require_absent("fc2_bias", weights.fc2_bias, "in gated experts");
    return;
  }
  check.require_absent("up_w", weights.up_w, "in standard experts");
  if (weights.fc1_bias.present()) {
    check.strided("fc1_bias", weights.fc1_bias, dtype, {sizes.experts, sizes.hidden_dim});
  }
  if (weights.fc2_bias.present()) {
    check.strided("fc2_bias", weights.fc2_bias, dtype, {sizes.experts, weights.fc2_bias.size(1)});
    require(fc2_bias_begin >= 0, "{}: fc2_bias_begin is {}, expected 0 or more", check.kernel(),
            fc2_bias_begin);
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

void check_forward(const ExpertFfnArgs& args, Device device) {
  const ArgumentCheck check("expert_ffn", device);
  const DType dtype = args.x.dtype;
  const FfnSizes sizes = {args.x.size(0), args.x.size(1), args.x.size(2), args.weights.fc1_w.size(1)};
  const Shape rows = {sizes.experts, sizes.rows, sizes.model_dim};
  const Shape hidden = {sizes.experts, sizes.rows, sizes.hidden_dim};
  check.require_compute_dtype("x", dtype);
  check.strided("x", args.x, dtype, rows);
  check_parameters(check, args.kind, args.weights, args.fc2_bias_begin, dtype, sizes);
  check.strided("hidden", args.hidden, dtype, hidden);
  check.strided("activated", args.activated, dtype, hidden);
  check_up(check, args.kind, "up", args.up, dtype, sizes);
  check.strided("y", args.y, dtype, rows);
}

void check_backward_data(const ExpertFfnBackwardDataArgs& args, Device device) {
  const ArgumentCheck check("expert_ffn_backward_data", device);
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
}

void check_backward_weights(const ExpertFfnBackwardWeightsArgs& args, Device device) {
  const ArgumentCheck check("expert_ffn_backward_weights", device);
  const DType dtype = args.x.dtype;
  const FfnSizes sizes = {args.x.size(0), args.x.size(1), args.x.size(2), args.gradients.fc1_w.size(1)};
  const Shape rows = {sizes.experts, sizes.rows, sizes.model_dim};
  const Shape hidden = {sizes.experts, sizes.rows, sizes.hidden_dim};
  check.require_compute_dtype("x", dtype);
  check.strided("x", args.x, dtype, rows);
  check.strided("dy", args.dy, dtype, rows);
  check_parameters(check, args.kind, args.gradients, args.fc2_bias_begin, dtype, sizes);
  check.strided("hidden", args.hidden, dtype, hidden);
  check.strided("dhidden", args.dhidden, dtype, hidden);
  check.strided("activated", args.activated, dtype, hidden);
  check_up(check, args.kind, "up", args.up, dtype, sizes);
  check_up(check, args.kind, "dup", args.dup, dtype, sizes);
}

constexpr std::array kActivations = {Activation::kGelu, Activation::kRelu, Activation::kSilu};
constexpr std::array kFfnKinds = {FfnKind::kStandard, FfnKind::kGated};

}  // namespace

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
  check_forward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { expert_ffn_cpu<T>(args); });
}

void expert_ffn_backward_data(const ExpertFfnBackwardDataArgs& args, Stream& stream) {
  check_backward_data(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_backward_data_cuda(args, stream);
#endif
  enqueue_as(args.dy.dtype, stream, [args]<class T>() { expert_ffn_backward_data_cpu<T>(args); });
}

void expert_ffn_backward_weights(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  check_backward_weights(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return expert_ffn_backward_weights_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { expert_ffn_backward_weights_cpu<T>(args); });
}

}  // namespace flex
