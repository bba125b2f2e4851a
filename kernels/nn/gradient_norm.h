#pragma once

#include <cstdint>

#include "kernels/nn/trained_tensors.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Global gradient-norm clipping in two steps, so that sums can be taken over ranks in between. G norm
/// groups. Everything is in fp64, and sums have a fixed order: equal bits on repeat. Both functions throw
/// InputError for shapes or types that disagree, run on the stream's device and may return before the work is
/// done.
namespace flex {

struct SquaredNormsArgs {
  const TrainedTensors* tensors = nullptr;
  TensorView sums;         ///< (G) fp64 out: sum of the squares of each group's gradients
  TensorView workspace{};  ///< (bytes) u8 of squared_norms_workspace_bytes
};
[[nodiscard]] std::int64_t squared_norms_workspace_bytes(const TrainedTensors& tensors);
/// A gradient that is not finite makes its group's sum so.
void squared_norms(const SquaredNormsArgs& args, Stream& stream);

struct GradientScaleArgs {
  ConstTensorView sums;     ///< (G) fp64
  double max_norm = 0.0;    ///< the norm that is clipped to; 0: no clipping
  double loss_scale = 1.0;  ///< what the loss, and with it every gradient, was multiplied by
  TensorView norm;          ///< (1) fp64 out: sqrt(sum of sums) / loss_scale
  TensorView
      scale;  ///< (1) fp64 out: min(1, max_norm / (norm + 1e-6)) / loss_scale; NaN if norm is not finite
};
/// What adamw multiplies gradients by. @source torch.nn.utils.clip_grad_norm_
void gradient_scale(const GradientScaleArgs& args, Stream& stream);

void squared_norms_cpu(const SquaredNormsArgs& args);
void gradient_scale_cpu(const GradientScaleArgs& args);

#ifdef FLEX_HAS_CUDA
void squared_norms_cuda(const SquaredNormsArgs& args, Stream& stream);
void gradient_scale_cuda(const GradientScaleArgs& args, Stream& stream);
#endif

}  // namespace flex
