#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Layer normalization, fused with the residual connection of a res-post-norm block. R rows, C channels, B
/// samples of R / B neighbouring rows each. Weights, statistics and their gradients are in
/// gate_dtype(x.dtype), and so is the arithmetic. All functions throw InputError for shapes or types that
/// disagree, run on the stream's device and may return before the work is done. @source Ba, Kiros, Hinton,
/// "Layer Normalization"
namespace flex {

inline constexpr double kLayerNormEpsilon = 1e-5;

struct LayerNormArgs {
  ConstTensorView x;           ///< (R, C)
  ConstTensorView weight;      ///< (C)
  ConstTensorView bias;        ///< (C)
  ConstTensorView residual{};  ///< (R, C), optional: added last
  ConstTensorView factors{};   ///< (B), only with residual, optional: drop path's factor of each sample
  TensorView y;                ///< (R, C); may be the memory of x or of residual
  TensorView mean{};           ///< (R) out, optional: kept for the backward pass, both or neither
  TensorView rstd{};           ///< (R) out: 1 / sqrt(variance + epsilon)
  double epsilon = kLayerNormEpsilon;
};
/// y = (x - mean) rstd weight + bias, or residual + factor * that. Mean and (biased) variance are over the
/// channels of a row, the variance from differences to the mean.
void layer_norm(const LayerNormArgs& args, Stream& stream);

struct LayerNormBackwardArgs {
  ConstTensorView dy;               ///< (R, C); the residual's gradient is dy itself
  ConstTensorView x;                ///< (R, C)
  ConstTensorView weight;           ///< (C)
  ConstTensorView mean;             ///< (R) from the forward pass
  ConstTensorView rstd;             ///< (R)
  ConstTensorView factors{};        ///< (B), as in the forward pass
  TensorView dx;                    ///< (R, C); may be the memory of dy or of x
  bool accumulate_dx = false;       ///< adds to dx instead of overwriting it: a pre-norm block's residual
  TensorView dweight;               ///< (C)
  TensorView dbias;                 ///< (C)
  bool accumulate_weights = false;  ///< adds to dweight and dbias instead of overwriting them
  TensorView workspace{};           ///< (bytes) u8 of layer_norm_backward_workspace_bytes
};
[[nodiscard]] std::int64_t layer_norm_backward_workspace_bytes(std::int64_t rows, std::int64_t channels,
                                                               Device device);
/// Sums over the rows have a fixed order: equal bits on repeat.
void layer_norm_backward(const LayerNormBackwardArgs& args, Stream& stream);

template <class T>
void layer_norm_cpu(const LayerNormArgs& args);
template <class T>
void layer_norm_backward_cpu(const LayerNormBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void layer_norm_cuda(const LayerNormArgs& args, Stream& stream);
void layer_norm_backward_cuda(const LayerNormBackwardArgs& args, Stream& stream);
[[nodiscard]] std::int64_t layer_norm_backward_workspace_bytes_cuda(std::int64_t rows, std::int64_t channels);
#endif

}  // namespace flex
