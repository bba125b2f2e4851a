#include "kernels/gemm_algorithms.h"
#include "kernels/moe/activation.h"
#include "kernels/moe/expert_products.h"
#include "kernels/nn/linear.h"

namespace flex {
namespace {

// A layer is one expert.
template <class View>
View one(const View& view) {
  if (!view.present()) return {};
  return view.shape.rank() == 1 ? view.reshaped({1, view.size(0)})
                                : view.reshaped({1, view.size(0), view.size(1)});
}

GemmEpilogue epilogue_of(bool has_bias, bool relu) {
  if (relu) return has_bias ? GemmEpilogue::kReluBias : GemmEpilogue::kRelu;
  return has_bias ? GemmEpilogue::kBias : GemmEpilogue::kNone;
}

}  // namespace

void linear_cuda(const LinearArgs& args, Stream& stream) {
  if (args.y.num_elements() == 0) return;
  ExpertProducts products(*args.gemm, {}, stream);
  const bool relu = args.activation == Activation::kRelu;
  const ConstTensorView bias = one(args.bias);
  const TensorView product = one(args.preactivation.present() ? args.preactivation : args.y);
  const ExpertProduct plain = {.a = one(args.x), .b = one(args.weight), .transpose_b = true, .d = product};
  ExpertProduct fused = plain;
  fused.epilogue = epilogue_of(bias.present(), relu);
  fused.bias = bias;
  const bool is_fused = products.run_if_supported(fused);
  if (!is_fused) products.run(plain);
  if (args.activation && !(is_fused && relu)) {
    // The library's gelu is the tanh approximation, and it has no silu: those are ours.
    const bool adds_bias = bias.present() && !is_fused;
    activate_cuda({.activation = *args.activation,
                   .hidden = product,
                   .bias = adds_bias ? bias : ConstTensorView{},
                   .biased = adds_bias && args.preactivation.present() ? product : TensorView{},
                   .activated = one(args.y)},
                  stream);
  } else if (!args.activation && bias.present() && !is_fused) {
    add_bias_cuda({.y = product, .bias = bias, .columns = product.size(2)}, stream);
  }
}

void linear_backward_cuda(const LinearBackwardArgs& args, Stream& stream) {
  ConstTensorView gradient = one(args.dy);
  if (args.activation) {
    activate_backward_cuda({.activation = *args.activation,
                            .hidden = one(args.kept),
                            .dactivated = gradient,
                            .dhidden = one(args.dpreactivation)},
                           stream);
    gradient = one(args.dpreactivation);
  }
  ExpertProducts products(*args.gemm, {}, stream);
  if (args.dweight.present()) {
    products.run_with_sums({.a = gradient,
                            .b = one(args.x),
                            .transpose_a = true,
                            .d = one(args.dweight),
                            .accumulate = args.accumulate_weights},
                           {.sums = one(args.dbias), .accumulate = args.accumulate_weights});
  } else if (args.dbias.present()) {
    column_sums_cuda({.rows = gradient,
                      .columns = gradient.size(2),
                      .sums = one(args.dbias),
                      .workspace = args.gemm->workspace(),
                      .accumulate = args.accumulate_weights},
                     stream);
  }
  if (args.dx.present())
    products.run({.a = gradient, .b = one(args.weight), .d = one(args.dx), .accumulate = args.accumulate_dx});
}

}  // namespace flex
