#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The dense formulation of GShard and Fairseq, kept as a named baseline to compare with: O(T E C M) work and
/// a T x E x C mask. Same results as encode and decode. Nothing else in Flex uses it.
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

template <class T>
void gshard_mask_cpu(const GshardMaskArgs& args);
template <class T>
void gshard_encode_cpu(const GshardEncodeArgs& args);
template <class T>
void gshard_decode_cpu(const GshardDecodeArgs& args);

#ifdef FLEX_HAS_CUDA
void gshard_mask_cuda(const GshardMaskArgs& args, Stream& stream);
void gshard_encode_cuda(const GshardEncodeArgs& args, Stream& stream);
void gshard_decode_cuda(const GshardDecodeArgs& args, Stream& stream);
#endif

}  // namespace flex
