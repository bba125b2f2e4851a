#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The residual connection where no LayerNorm is fused with it. R rows, C channels, B samples of R / B
/// neighbouring rows each. All functions throw InputError for shapes or types that disagree, run on the
/// stream's device and may return before the work is done.
namespace flex {

struct AddResidualArgs {
  ConstTensorView residual;   ///< (R, C)
  ConstTensorView x;          ///< (R, C)
  ConstTensorView factors{};  ///< (B) in the gate's type, optional: drop path's factor of each sample
  TensorView y;               ///< (R, C); may be the memory of residual or of x
};
/// y = residual + factor * x; without factors the sum of two tensors. Its gradient by the residual is dy
/// itself, by x it is scale_rows.
void add_residual(const AddResidualArgs& args, Stream& stream);

struct ScaleRowsArgs {
  ConstTensorView x;        ///< (R, C)
  ConstTensorView factors;  ///< (B) in the gate's type
  TensorView y;             ///< (R, C); may be the memory of x
};
/// y = factor * x.
void scale_rows(const ScaleRowsArgs& args, Stream& stream);

template <class T>
void add_residual_cpu(const AddResidualArgs& args);
template <class T>
void scale_rows_cpu(const ScaleRowsArgs& args);

#ifdef FLEX_HAS_CUDA
void add_residual_cuda(const AddResidualArgs& args, Stream& stream);
void scale_rows_cuda(const ScaleRowsArgs& args, Stream& stream);
#endif

}  // namespace flex
