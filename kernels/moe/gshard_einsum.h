#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The dense formulation of GShard and Fairseq, kept as a named baseline to compare with: O(T E C M) work and
/// a T x E x C mask. Same results as encode and decode. Nothing else in Flex uses it.
///
/// Both products are linear, so that their gradients are products again:
///   decode, y = mask buffer: the gradient by the buffer, mask^T dy, is gshard_encode of dy with decode's
///     mask; that by the mask, dy buffer^T, is gshard_decode_backward_mask of dy and the buffer.
///   encode, buffer = mask^T x: the gradient by x, mask dbuffer, is gshard_decode of dbuffer with encode's
///     mask; that by the mask, x dbuffer^T, is gshard_decode_backward_mask of x and dbuffer.
namespace flex {

class GemmAlgorithms;

struct GshardMaskArgs {
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView gates{};    ///< (T, k) in the gate's type; left out: 1
  std::int64_t capacity = 0;
  TensorView mask;  ///< (T, E, C) in x's type: the gate weight at (t, e, location), zero elsewhere
};
void gshard_mask(const GshardMaskArgs& args, Stream& stream);

struct GshardMaskBackwardArgs {
  ConstTensorView dmask;      ///< (T, E, C) in x's type
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32; C or more: dropped
  TensorView dgates;          ///< (T, k) in the gate's type: dmask at (t, e, location), zero where dropped
};
void gshard_mask_backward(const GshardMaskBackwardArgs& args, Stream& stream);

struct GshardEncodeArgs {
  ConstTensorView x;               ///< (T, M)
  ConstTensorView mask;            ///< (T, E, C)
  TensorView buffer;               ///< (E * C, M) = mask^T x
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only: chooses the matrix product's algorithm
};
void gshard_encode(const GshardEncodeArgs& args, Stream& stream);

struct GshardDecodeArgs {
  ConstTensorView buffer;          ///< (E * C, M)
  ConstTensorView mask;            ///< (T, E, C)
  TensorView y;                    ///< (T, M) = mask buffer
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only
};
void gshard_decode(const GshardDecodeArgs& args, Stream& stream);

struct GshardDecodeBackwardMaskArgs {
  ConstTensorView dy;              ///< (T, M)
  ConstTensorView buffer;          ///< (E * C, M) what decode read
  TensorView dmask;                ///< (T, E, C) = dy buffer^T, every element of it
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only
};
void gshard_decode_backward_mask(const GshardDecodeBackwardMaskArgs& args, Stream& stream);

template <class T>
void gshard_mask_cpu(const GshardMaskArgs& args);
template <class T>
void gshard_mask_backward_cpu(const GshardMaskBackwardArgs& args);
template <class T>
void gshard_encode_cpu(const GshardEncodeArgs& args);
template <class T>
void gshard_decode_cpu(const GshardDecodeArgs& args);
template <class T>
void gshard_decode_backward_mask_cpu(const GshardDecodeBackwardMaskArgs& args);

#ifdef FLEX_HAS_CUDA
void gshard_mask_cuda(const GshardMaskArgs& args, Stream& stream);
void gshard_mask_backward_cuda(const GshardMaskBackwardArgs& args, Stream& stream);
void gshard_encode_cuda(const GshardEncodeArgs& args, Stream& stream);
void gshard_decode_cuda(const GshardDecodeArgs& args, Stream& stream);
void gshard_decode_backward_mask_cuda(const GshardDecodeBackwardMaskArgs& args, Stream& stream);
#endif

}  // namespace flex
