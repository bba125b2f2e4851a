#pragma once

#include <cstdint>
#include <span>

#include "kernels/moe/expert_ffn.h"

/// What the experts, and linear layers, do on CUDA beside matrix products. Private to them; views are (L, R,
/// F) unless noted, checked by the front door. `counts` are the rows of each expert that are computed, on the
/// host; empty: all R. Every element has one writer and sums have a fixed order: equal bits on repeat.
namespace flex {

struct ActivateArgs {
  Activation activation = Activation::kGelu;
  ConstTensorView hidden;
  ConstTensorView bias{};  ///< (L, F), added first
  ConstTensorView up{};    ///< multiplies the activation
  TensorView biased{};     ///< out: hidden + bias, where it is to be kept; may be `hidden`; only with a bias
  TensorView activated{};  ///< may be `hidden`
  std::span<const std::int64_t> counts{};
};
/// activated = act(hidden + bias) * up.
void activate_cuda(const ActivateArgs& args, Stream& stream);

struct ActivateBackwardArgs {
  Activation activation = Activation::kGelu;
  ConstTensorView hidden;
  ConstTensorView up{};
  ConstTensorView dactivated;  ///< gradient by the activated values
  TensorView dhidden;          ///< out: by hidden; may be the memory of `dactivated` or of `hidden`
  TensorView dup{};            ///< out, with up, whose memory it may be
  std::span<const std::int64_t> counts{};
};
void activate_backward_cuda(const ActivateBackwardArgs& args, Stream& stream);

struct AddBiasArgs {
  TensorView y;          ///< (L, R, M)
  ConstTensorView bias;  ///< (L, B)
  std::int64_t begin = 0;
  std::int64_t columns = 0;  ///< y[:, :, begin + c] += bias[:, c] for c < columns
  std::span<const std::int64_t> counts{};
};
void add_bias_cuda(const AddBiasArgs& args, Stream& stream);

struct ColumnSumsArgs {
  ConstTensorView rows;  ///< (L, R, M)
  std::int64_t begin = 0;
  std::int64_t columns = 0;  ///< sums[:, c] = sum over rows of rows[:, :, begin + c] for c < columns
  TensorView sums;           ///< (L, B); zero from `columns` on
  TensorView workspace;      ///< u8, any content
  bool accumulate = false;   ///< adds to the sums instead of overwriting them
  std::span<const std::int64_t> counts{};
};
/// Sums in fp32. @throws DeviceError if the workspace does not hold one expert's partial sums.
void column_sums_cuda(const ColumnSumsArgs& args, Stream& stream);

}  // namespace flex
