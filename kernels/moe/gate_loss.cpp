#include "kernels/moe/gate_loss.h"

#include <array>
#include <cmath>

#include "kernels/check.h"

namespace flex {
namespace {

constexpr std::array kKinds = {GateLossKind::kNone, GateLossKind::kGshard, GateLossKind::kLoadImportance,
                               GateLossKind::kLoadImportanceReleased};

void check_settings(const ArgumentCheck& check, const GateLossSettings& settings) {
  const bool compares_load = settings.kind == GateLossKind::kLoadImportance ||
                             settings.kind == GateLossKind::kLoadImportanceReleased;
  require(!compares_load || (std::isfinite(settings.gate_noise) && settings.gate_noise > 0.0),
          "{}: {} needs gate_noise > 0, got {}", check.kernel(), name(settings.kind), settings.gate_noise);
  require(std::isfinite(settings.z_loss_weight), "{}: z_loss_weight is {}, expected a finite number",
          check.kernel(), settings.z_loss_weight);
}

// What sums and gradient read alike.
template <class Args>
void check_inputs(const ArgumentCheck& check, const Args& args) {
  const DType dtype = args.scores.dtype;
  const Shape shape = {args.scores.size(0), args.scores.size(1)};
  const std::int64_t top_k = args.indices.size(1);
  check_settings(check, args.settings);
  check.require_gate_dtype("scores", dtype);
  check.tensor("scores", args.scores, dtype, shape);
  require(shape[1] >= 1, "{}: scores has no experts", check.kernel());
  check.tensor("clean", args.clean, dtype, shape);
  check.tensor("noisy", args.noisy, dtype, shape);
  check.tensor("indices", args.indices, DType::kI32, {shape[0], top_k});
  require(top_k >= 1 && top_k <= shape[1], "{}: top-k is {}, expected 1 to the {} experts", check.kernel(),
          top_k, shape[1]);
  check.tensor("sums", args.sums, DType::kF64, {gate_loss_num_sums(shape[1])});
}

}  // namespace

std::string_view name(GateLossKind kind) {
  switch (kind) {
    case GateLossKind::kNone:
      return "none";
    case GateLossKind::kGshard:
      return "gshard";
    case GateLossKind::kLoadImportance:
      return "load_importance";
    case GateLossKind::kLoadImportanceReleased:
      return "load_importance_released";
  }
  return "?";
}

std::optional<GateLossKind> parse_gate_loss(std::string_view text) {
  for (const GateLossKind kind : kKinds) {
    if (name(kind) == text) return kind;
  }
  return std::nullopt;
}

std::int64_t gate_loss_workspace_bytes([[maybe_unused]] std::int64_t num_tokens,
                                       [[maybe_unused]] std::int64_t num_experts,
                                       [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return gate_loss_workspace_bytes_cuda(num_tokens, num_experts);
#endif
  return 0;
}

void gate_loss_sums(const GateLossSumsArgs& args, Stream& stream) {
  const ArgumentCheck check("gate_loss_sums", stream.device());
  check_inputs(check, args);
  check.workspace(args.workspace,
                  gate_loss_workspace_bytes(args.scores.size(0), args.scores.size(1), stream.device()));
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gate_loss_sums_cuda(args, stream);
#endif
  enqueue_as(args.scores.dtype, stream, [args]<class T>() { gate_loss_sums_cpu<T>(args); });
}

void gate_loss_value(const GateLossValueArgs& args, Stream& stream) {
  const ArgumentCheck check("gate_loss_value", stream.device());
  const std::int64_t num_sums = args.sums.size(0);
  check_settings(check, args.settings);
  check.require_gate_dtype("value", args.value.dtype);
  check.tensor("sums", args.sums, DType::kF64, {num_sums});
  require(num_sums >= gate_loss_num_sums(1) && num_sums % 2 == 0,
          "gate_loss_value: sums has {} elements, expected 2 E + 2 for some E", num_sums);
  check.tensor("value", args.value, args.value.dtype, {1});
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gate_loss_value_cuda(args, stream);
#endif
  enqueue_as(args.value.dtype, stream, [args]<class T>() { gate_loss_value_cpu<T>(args); });
}

void gate_loss_backward(const GateLossBackwardArgs& args, Stream& stream) {
  const ArgumentCheck check("gate_loss_backward", stream.device());
  check_inputs(check, args);
  check.tensor("dlogits", args.dlogits, args.scores.dtype, args.scores.shape);
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return gate_loss_backward_cuda(args, stream);
#endif
  enqueue_as(args.scores.dtype, stream, [args]<class T>() { gate_loss_backward_cpu<T>(args); });
}

}  // namespace flex
