#pragma once

#include <cstdint>

#include "kernels/moe/slot_layout.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The two movements behind encode, decode and their gradients: rows of tokens into slots, and slots into
/// rows of tokens. Symbols and the rule for dropped choices as in encode.h. Arguments are checked by the
/// doors of encode and decode.
namespace flex {

struct ScatterRowsArgs {
  ConstTensorView rows;       ///< (T, M)
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView counts;     ///< (E) i32
  ConstTensorView gates{};    ///< (T, k) fp32; left out: 1
  std::int64_t capacity = 0;
  SlotLayout layout;  ///< of `slots`
  TensorView slots;   ///< (layout.num_rows(), M) written in full; may be `other` if the layouts are equal
  ConstTensorView other{};  ///< (other_layout.num_rows(), M), read only for `dots`
  SlotLayout other_layout{};
  TensorView dots{};  ///< (T, k) fp32, left out: none: <rows[t], row of other>, zero for a dropped choice
};
/// slots[row(e, location)] = gate * rows[t] for every kept choice, zero elsewhere. One launch.
void scatter_rows_cuda(const ScatterRowsArgs& args, Stream& stream);

struct GatherRowsArgs {
  ConstTensorView slots;      ///< (layout.num_rows(), M)
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView locations;  ///< (T, k) i32
  ConstTensorView gates{};    ///< (T, k) fp32; left out: 1
  std::int64_t capacity = 0;
  SlotLayout layout;
  TensorView rows;          ///< (T, M) = sum over kept choices, in the order of j, of gate * slot
  bool accumulate = false;  ///< adds to rows
  ConstTensorView x{};      ///< (T, M), read only for `dots`
  TensorView dots{};        ///< (T, k) fp32, left out: none: <x[t], slot>, zero for a dropped choice
};
/// One launch.
void gather_rows_cuda(const GatherRowsArgs& args, Stream& stream);

}  // namespace flex
