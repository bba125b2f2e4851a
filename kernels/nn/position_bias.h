#pragma once

#include <cstdint>

#include "kernels/nn/window_map.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Continuous position bias: a small net on the log-spaced offset between query and key. D offsets, P hidden
/// columns, `heads` attention heads; everything is in the gate's type. All functions throw InputError for
/// shapes or types that disagree, run on the stream's device and may return before the work is done.
/// @source numerics.md "SwinV2-MoE"; Liu et al., "Swin Transformer V2", 3.3
namespace flex {

/// D: a window of h x w has (2 h - 1)(2 w - 1) offsets (dh, dw) between two of its positions, query minus
/// key, at index (dh + h - 1) * (2 w - 1) + (dw + w - 1).
[[nodiscard]] constexpr std::int64_t num_offsets(Extent window) {
  return (2 * window.rows - 1) * (2 * window.columns - 1);
}

/// The bias is kPositionBiasScale * sigmoid(net) where it is bounded.
inline constexpr double kPositionBiasScale = 16.0;

struct PositionBiasArgs {
  Extent window;
  /// Offsets are divided by this less 1 (by `window` less 1 where it is 0 or left out; by 1 at least).
  Extent pretrained_window{};
  ConstTensorView fc1_weight;  ///< (P, 2)
  ConstTensorView fc1_bias;    ///< (P)
  ConstTensorView fc2_weight;  ///< (heads, P)
  bool bounded = true;         ///< kPositionBiasScale * sigmoid(net), or else the net itself
  TensorView table;            ///< (heads, D) out: the bias of each offset
};
/// table[h, o] = f(sum_p fc2_weight[h, p] max(0, <fc1_weight[p], u(o)> + fc1_bias[p])), with u(o) =
/// sign(v) log2(1 + |8 v|) / log2(8) of the offset's relative coordinates v. window_attention takes it from
/// there by query and key: a matrix of N x N is never written.
void position_bias(const PositionBiasArgs& args, Stream& stream);

struct PositionBiasBackwardArgs {
  Extent window;
  Extent pretrained_window{};
  ConstTensorView fc1_weight;
  ConstTensorView fc1_bias;
  ConstTensorView fc2_weight;
  bool bounded = true;
  ConstTensorView table;            ///< (heads, D) from the forward pass
  ConstTensorView dtable;           ///< (heads, D)
  TensorView dfc1_weight;           ///< (P, 2)
  TensorView dfc1_bias;             ///< (P)
  TensorView dfc2_weight;           ///< (heads, P)
  bool accumulate_weights = false;  ///< adds to the three instead of overwriting them
};
/// Hidden values are computed again. Sums have a fixed order: equal bits on repeat.
void position_bias_backward(const PositionBiasBackwardArgs& args, Stream& stream);

template <class T>
void position_bias_cpu(const PositionBiasArgs& args);
template <class T>
void position_bias_backward_cpu(const PositionBiasBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void position_bias_cuda(const PositionBiasArgs& args, Stream& stream);
void position_bias_backward_cuda(const PositionBiasBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
