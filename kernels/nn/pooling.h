#pragma once

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Mean over the positions of an image. B images, L positions (1 or more), C channels. Both functions throw
/// InputError for shapes or types that disagree, run on the stream's device and may return before the work is
/// done.
namespace flex {

struct MeanPoolArgs {
  ConstTensorView x;  ///< (B L, C)
  TensorView y;       ///< (B, C)
};
/// y[b] = sum over l of x[b, l] / L, summed in the gate's type in a fixed order.
void mean_pool(const MeanPoolArgs& args, Stream& stream);

struct MeanPoolBackwardArgs {
  ConstTensorView dy;  ///< (B, C)
  TensorView dx;       ///< (B L, C): dy / L at every position
};
void mean_pool_backward(const MeanPoolBackwardArgs& args, Stream& stream);

template <class T>
void mean_pool_cpu(const MeanPoolArgs& args);
template <class T>
void mean_pool_backward_cpu(const MeanPoolBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void mean_pool_cuda(const MeanPoolArgs& args, Stream& stream);
void mean_pool_backward_cuda(const MeanPoolBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
