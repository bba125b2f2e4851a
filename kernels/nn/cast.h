#pragma once

#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {

struct CastArgs {
  ConstTensorView from;  ///< any shape, contiguous, of a type that the device computes in
  TensorView to;         ///< the same shape, of another such type, or of the same
};
/// to = from, rounded to nearest even: the narrow copies of the weights, and images. @throws InputError for
/// shapes that disagree and other types.
void cast(const CastArgs& args, Stream& stream);

void cast_cpu(const CastArgs& args);
#ifdef FLEX_HAS_CUDA
void cast_cuda(const CastArgs& args, Stream& stream);
#endif

}  // namespace flex
