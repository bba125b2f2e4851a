#include <algorithm>
#include <vector>

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
  if (products.run_if_supported(fused)) {
    // The library's gelu is the tanh approximation, and it has no silu: those are ours.
    if (!relu)
      activate_cuda(
          {.activation = args.activation, .hidden = args.hidden, .activated = activated, .counts = counts},
          stream);
    return activated;
  }
  products.run(product);
  const bool keeps_hidden = !relu && bias.present() && activated.data != args.hidden.data;
  activate_cuda({.activation = args.activation,
                 .hidden = args.hidden,
                 .bias = bias,
                 .biased = keeps_hidden ? args.hidden : TensorView{},
                 .activated = activated,
                 .counts = counts},
                stream);
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

// The gradient of rows [begin, begin + rows) of `hidden`, by way of the tile if there is one.
void hidden_gradient(const ExpertFfnBackwardDataArgs& args, std::int64_t begin, std::int64_t rows,
                     Counts counts, Stream& stream) {
  std::vector<std::int64_t> rest;  // of the counts, in these rows
  for (const std::int64_t count : counts) rest.push_back(std::clamp<std::int64_t>(count - begin, 0, rows));
  const auto part = [&](const auto& view) { return view.present() ? view.narrowed(begin, rows) : view; };
  const TensorView dactivated = args.tile.present() ? args.tile.narrowed(0, rows) : part(args.dhidden);
  ExpertProducts products(*args.gemm, rest, stream);
  products.run({.a = part(args.dy), .b = args.weights.fc2_w, .transpose_b = true, .d = dactivated});
  activate_backward_cuda({.activation = activation_of(args.kind, args.activation),
                          .hidden = part(args.hidden),
                          .up = part(args.up),
                          .dactivated = dactivated,
                          .dhidden = part(args.dhidden),
                          .dup = part(args.dup),
                          .counts = rest},
                         stream);
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
  if (args.tile.present()) {
    const std::int64_t step = args.tile.size(1);
    for (std::int64_t begin = 0; begin < args.dy.size(1); begin += step) {
      hidden_gradient(args, begin, std::min(step, args.dy.size(1) - begin), counts, stream);
    }
  } else {
    hidden_gradient(args, 0, args.dy.size(1), counts, stream);
  }
  ExpertProducts products(*args.gemm, counts, stream);
  products.run({.a = args.dhidden, .b = args.weights.fc1_w, .d = args.dx});
  if (args.kind == FfnKind::kGated)
    products.run({.a = args.dup, .b = args.weights.up_w, .d = args.dx, .accumulate = true});
}

void grouped_ffn_backward_fc1_cuda(const ExpertFfnBackwardWeightsArgs& args, Counts counts, Stream& stream) {
  const auto& gradients = args.gradients;
  if (args.x.size(0) == 0) return;
  ExpertProducts products(*args.gemm, counts, stream);
  products.run_with_sums({.a = args.dhidden, .b = args.x, .transpose_a = true, .d = gradients.fc1_w},
                         {.epilogue = GemmEpilogue::kRowSumsA, .sums = gradients.fc1_bias});
  if (args.kind == FfnKind::kGated)
    products.run({.a = args.dup, .b = args.x, .transpose_a = true, .d = gradients.up_w});
}

void grouped_ffn_backward_fc2_cuda(const ExpertFfnBackwardWeightsArgs& args, Counts counts, Stream& stream) {
  const auto& gradients = args.gradients;
  if (args.dy.size(0) == 0) return;
  ExpertProducts products(*args.gemm, counts, stream);
  const bool kept = keeps_activated(args.kind, args.activation);
  if (!kept)
    activate_cuda({.activation = activation_of(args.kind, args.activation),
                   .hidden = args.hidden,
                   .up = args.up,
                   .activated = args.activated,
                   .counts = counts},
                  stream);
  products.run_with_sums(
      {.a = kept ? args.hidden : ConstTensorView(args.activated),
       .b = args.dy,
       .transpose_a = true,
       .d = gradients.fc2_w},
      {.epilogue = GemmEpilogue::kColumnSumsB, .begin = args.fc2_bias_begin, .sums = gradients.fc2_bias});
}

void expert_ffn_cuda(const ExpertFfnArgs& args, Stream& stream) { grouped_ffn_cuda(args, {}, stream); }
void expert_ffn_backward_data_cuda(const ExpertFfnBackwardDataArgs& args, Stream& stream) {
  grouped_ffn_backward_data_cuda(args, {}, stream);
}
void expert_ffn_backward_fc1_cuda(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  grouped_ffn_backward_fc1_cuda(args, {}, stream);
}
void expert_ffn_backward_fc2_cuda(const ExpertFfnBackwardWeightsArgs& args, Stream& stream) {
  grouped_ffn_backward_fc2_cuda(args, {}, stream);
}

}  // namespace flex
