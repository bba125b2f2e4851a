#pragma once

#include <cstdint>

#include "kernels/moe/slot_layout.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Experts' slots back into tokens. Symbols and the rule for dropped choices as in encode.h.
/// @source numerics.md "Encode and decode"
namespace flex {

struct DecodeArgs {
  ConstTensorView buffer;     ///< (layout.num_rows(), M)
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView gates{};    ///< (T, k) in the gate's type; left out: 1 (is_postscore false)
  std::int64_t capacity = 0;
  SlotLayout layout;
  TensorView y;  ///< (T, M) written in full: a token whose choices were all dropped gets zeros
};
/// y[t] = sum over kept choices, in the order of j, of gates[t,j] * buffer[row(e, location)].
void decode(const DecodeArgs& args, Stream& stream);

struct DecodeBackwardArgs {
  ConstTensorView dy;         ///< (T, M)
  ConstTensorView buffer{};   ///< (buffer_layout.num_rows(), M) what decode() read; needed only with gates
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView counts;     ///< (E) i32
  ConstTensorView gates{};    ///< (T, k); left out: 1
  std::int64_t capacity = 0;
  SlotLayout buffer_layout{};  ///< of `buffer` (the forward plan's)
  SlotLayout dbuffer_layout;   ///< of `dbuffer` (the backward plan's)
  TensorView dbuffer;   ///< (dbuffer_layout.num_rows(), M) written in full: gates * dy, zero in unused slots;
                        ///< may be `buffer` itself when both layouts are equal
  TensorView dgates{};  ///< (T, k), only with gates: <dy[t], buffer row>, zero for a dropped choice
};
void decode_backward(const DecodeBackwardArgs& args, Stream& stream);

template <class T>
void decode_cpu(const DecodeArgs& args);
template <class T>
void decode_backward_cpu(const DecodeBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void decode_cuda(const DecodeArgs& args, Stream& stream);
void decode_backward_cuda(const DecodeBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
