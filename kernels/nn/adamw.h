#pragma once

#include "kernels/nn/trained_tensors.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

/// Arguments of adamw.
struct AdamwArgs {
  const TrainedTensors* tensors = nullptr;
  double learning_rate = 0.0;
  double weight_decay = 0.0;  ///< of tensors that decay
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double average_decay = 0.0;  ///< of the moving averages
  ConstTensorView scale;       ///< (1) fp64: multiplies gradients; from gradient_scale
  TensorView step;             ///< (1) i64, in and out: steps taken so far
};

/// One step of all tensors: with g = scale * gradient and t = step + 1, p -= lr weight_decay p; m = beta1 m +
/// (1
/// - beta1) g; v = beta2 v + (1 - beta2) g^2; p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) +
/// epsilon); narrow = p; average = average_decay average + (1 - average_decay) p; step = t. If scale is not
/// finite, which is how gradients that are not finite arrive here, nothing is changed, `step` included.
///
/// Runs on the stream's device and may return before the work is done. @throws InputError for shapes or types
/// that disagree. @source Loshchilov, Hutter, "Decoupled Weight Decay Regularization", algorithm 2, with the
/// step size inside as in numerics.md "SwinV2-MoE"
void adamw(const AdamwArgs& args, Stream& stream);

template <class T>
void adamw_cpu(const AdamwArgs& args);

#ifdef FLEX_HAS_CUDA
void adamw_cuda(const AdamwArgs& args, Stream& stream);
#endif

}  // namespace flex
