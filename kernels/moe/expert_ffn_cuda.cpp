#include "kernels/gemm_algorithms.h"
#include "kernels/moe/activation.h"
#include "kernels/moe/expert_ffn.h"
#include "kernels/moe/expert_products.h"
#include "kernels/moe/grouped_ffn.h"

namespace flex {
namespace {

using Counts = std::span<const std::int64_t>;

// hidden = act(x fc1_w^T + fc1_bias), and with an activation whose input is kept, `activated` beside it.
// Returns what multiplies fc2_w.
ConstTensorView first_layer(const ExpertFfnArgs& args, ExpertProducts& products, Counts counts,
                            Stream& stream) {
  const bool relu = keeps_activated(args.kind, args.activation);
  const ConstTensorView& bias = args.weights.fc1_bias;
  const TensorView& activated = relu ? args.hidden : args.activated;
  ExpertProduct product = {.a = args.x, .b = args.weights.fc1_w, .transpose_b = true, .d = args.hidden};
  ExpertProduct fused = product;
  fused.bias = bias;
  if (relu) {
    fused.epilogue = bias.present() ? GemmEpilogue::kReluBias : GemmEpilogue::kRelu;
  } else {
    fused.epilogue = bias.present() ? GemmEpilogue::kBias : GemmEpilogue::kNone;
  }
  if (args.relu_mask.present()) {
    ExpertProduct masking = fused;
    masking.epilogue = bias.present() ? GemmEpilogue::kReluMaskBias : GemmEpilogue::kReluMask;
    masking.mask = args.relu_mask;
    if (products.prefers_fused(masking, fused, args.hidden.bytes()).value_or(true)) {
      products.run(masking);
      return activated;
    }
  }
  if (products.run_if_supported(fused)) {
    // The library's gelu is the tanh approximation, and it has no silu: those are ours.
    if (!relu)
      activate_cuda(
          {.activation = args.activation, .hidden = args.hidden, .activated = activated, .counts = counts},
          stream);
  } else {
    products.run(product);
    const bool keeps_hidden = !relu && bias.present() && activated.data != args.hidden.data;
    activate_cuda({.activation = args.activation,
                   .hidden = args.hidden,
                   .bias = bias,
                   .biased = keeps_hidden ? args.hidden : TensorView{},
                   .activated = activated,
                   .counts = counts},
                  stream);
  }
  if (args.relu_mask.present()) relu_mask_cuda({.hidden = args.hidden, .mask = args.relu_mask}, stream);
  return activated;
}

ConstTensorView gated_first_layer(const ExpertFfnArgs& args, ExpertProducts& products, Counts counts,
                                  Stream& stream) {
  products.run({.a = args.x, .b = args.weights.fc1_w, .transpose_b = true, .d = args.hidden});
  products.run({.a = args.x, .b = args.weights.up_w, .transpose_b = true, .d = args.up});
  activate_cuda({.activation = Activation::kSilu,
                 .hidden = args.hidden,
                 .up = args.up,
                 .activated = args.activated,
                 .counts = counts},
                stream);
  return args.activated;
}

}  // namespace

void grouped_ffn_cuda(const ExpertFfnArgs& args, Counts counts, Stream& stream) {
  if (args.y.num_elements() == 0) return;
  ExpertProducts products(*args.gemm, counts, stream);
  const ConstTensorView activated = args.kind == FfnKind::kGated
                                        ? gated_first_layer(args, products, counts, stream)
                                        : first_layer(args, products, counts, stream);
  ExpertProduct product = {.a = activated, .b = args.weights.fc2_w, .d = args.y};
  const ConstTensorView& bias = args.weights.fc2_bias;
  const std::int64_t columns =
      bias.present() ? covered_columns(args.fc2_bias_begin, bias.size(1), args.y.size(2)) : 0;
  if (columns == args.y.size(2)) {  // and so begins at 0
    ExpertProduct fused = product;
    fused.epilogue = GemmEpilogue::kBias;
    fused.bias = bias;
    if (products.run_if_supported(fused)) return;
  }
  products.run(product);
  if (columns == 0) return;
  add_bias_cuda(
      {.y = args.y, .bias = bias, .begin = args.fc2_bias_begin, .columns = columns, .counts = counts},
      stream);
}

void grouped_ffn_backward_data_cuda(const ExpertFfnBackwardDataArgs& args, Counts counts, Stream& stream) {
  if (args.dx.num_elements() == 0) return;
  ExpertProducts products(*args.gemm, counts, stream);
  const ExpertProduct first = {.a = args.dy, .b = args.weights.fc2_w, .transpose_b = true, .d = args.dhidden};
  if (args.relu_mask.present()) {
    ExpertProduct sloped = first;
    sloped.epilogue = GemmEpilogue::kReluSlope;
    sloped.slope_mask = args.relu_mask;
    constexpr std::int64_t kPassTensors = 3;  // reads hidden and dhidden, writes dhidden
    if (products.prefers_fused(sloped, first, kPassTensors * args.dhidden.bytes()).value_or(true)) {
      products.run(sloped);
      products.run({.a = args.dhidden, .b = args.weights.fc1_w, .d = args.dx});
      return;
    }
  }
  products.run(first);
  activate_backward_cuda({.activation = activation_of(args.kind, args.activation),
                          .hidden = args.hidden,
                          .up = args.up,
                          .dhidden = args.dhidden,
                          .dup = args.dup,
                          .counts = counts},
                         stream);
  products.run({.a = args.dhidden, .b = args.weights.fc1_w, .d = args.dx});
  if (args.kind == FfnKind::kGated)
    products.run({.a = args.dup, .b = args.weights.up_w, .d = args.dx, .accumulate = true});
}

void grouped_ffn_backward_weights_cuda(const ExpertFfnBackwardWeightsArgs& args, Counts counts,
                                       Stream& stream) {
  const auto& gradients = args.gradients;
  if (args.x.size(0) == 0) return;
  ExpertProducts products(*args.gemm, counts, stream);
  const auto sum_columns = [&](const ConstTensorView& rows, std::int64_t begin, const TensorView& sums) {
    if (!sums.present()) return;
    column_sums_cuda({.rows = rows,
                      .begin = begin,
                      .columns = covered_columns(begin, sums.size(1), rows.size(2)),
                      .sums = sums,
                      .workspace = args.gemm->workspace(),
                      .counts = counts},
                     stream);
  };
  // Sums of whole rows may be the product's epilogue. Kernels that have it may be slower by more than the
  // pass that it saves: it is taken only where it was measured.
  const auto run_with_sums = [&](const ExpertProduct& plain, GemmEpilogue epilogue, std::int64_t begin,
                                 const TensorView& sums) {
    const ConstTensorView& rows = epilogue == GemmEpilogue::kRowSumsA ? plain.a : plain.b;
    if (sums.present() && begin == 0 && sums.size(1) == rows.size(2)) {
      ExpertProduct fused = plain;
      fused.epilogue = epilogue;
      fused.sums = sums;
      if (products.prefers_fused(fused, plain, rows.bytes()).value_or(false)) return products.run(fused);
    }
    products.run(plain);
    sum_columns(rows, begin, sums);
  };
  run_with_sums({.a = args.dhidden, .b = args.x, .transpose_a = true, .d = gradients.fc1_w},
                GemmEpilogue::kRowSumsA, 0, gradients.fc1_bias);
  if (args.kind == FfnKind::kGated)
    products.run({.a = args.dup, .b = args.x, .transpose_a = true, .d = gradients.up_w});
  const bool kept = keeps_activated(args.kind, args.activation);
  if (!kept)
    activate_cuda({.activation = activation_of(args.kind, args.activation),
                   .hidden = args.hidden,
                   .up = args.up,
                   .activated = args.activated,
                   .counts = counts},
                  stream);
  run_with_sums({.a = kept ? args.hidden : ConstTensorView(args.activated),
                 .b = args.dy,
                 .transpose_a = true,
                 .d = gradients.fc2_w},
                GemmEpilogue::kColumnSumsB, args.fc2_bias_begin, gradients.fc2_bias);
}

void expert_ffn_cuda(const ExpertFfnArgs& args, Stream& stream) { grouped_ffn_cuda(args, {}, stream); }
void expert_ffn_backward_data_cuda(const ExpertFfnBackwardDataArgs& args, Stream& stream) {
  grouped_ffn_backward_data_cuda(args, {}, stream);
}
void expert_ffn_backward_weights_cuda(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  grouped_ffn_backward_weights_cuda(args, {}, stream);
}

}  // namespace flex
