#pragma once

#include <cstdint>

#include "kernels/moe/slot_layout.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Tokens into experts' slots. T tokens, k choices, M model dim. A choice whose location is not below
/// `capacity` is dropped; slots that no choice takes are zero. Cost O(T k M): there is no mask of size T x E
/// x C.
/// @source numerics.md "Encode and decode"
namespace flex {

struct EncodeArgs {
  ConstTensorView x;          ///< (T, M)
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView counts;  ///< (E) i32: slots [min(count, capacity), layout.capacity) of an expert are unused
  ConstTensorView gates{};    ///< (T, k) in the gate's type; left out: 1 (is_postscore)
  std::int64_t capacity = 0;  ///< slots that may be taken, <= layout.capacity
  SlotLayout layout;
  TensorView buffer;  ///< (layout.num_rows(), M) written in full; must not alias x
};
/// buffer[row(e, location)] = gate * x[t] for every kept choice, zero elsewhere. Each element has one writer:
/// equal bits on repeat.
void encode(const EncodeArgs& args, Stream& stream);

struct EncodeBackwardArgs {
  ConstTensorView dbuffer;    ///< (layout.num_rows(), M)
  ConstTensorView x{};        ///< (T, M); read only when gates are given
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView gates{};    ///< (T, k); left out: 1
  std::int64_t capacity = 0;
  SlotLayout layout;
  TensorView dx;        ///< (T, M): sum over kept choices of gate * dbuffer row
  TensorView dgates{};  ///< (T, k), only with gates: <x[t], dbuffer row>, zero for a dropped choice
  bool accumulate_dx = false;
};
void encode_backward(const EncodeBackwardArgs& args, Stream& stream);

template <class T>
void encode_cpu(const EncodeArgs& args);
template <class T>
void encode_backward_cpu(const EncodeBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void encode_cuda(const EncodeArgs& args, Stream& stream);
void encode_backward_cuda(const EncodeBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
