#pragma once

#include <cstdint>
#include <optional>

#include "kernels/moe/expert_ffn.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// A linear layer with its activation. R rows, K columns in, N columns out. All tensors have one type; on
/// CUDA products are summed in fp32 (of TF32 operands where GemmOptions allow it). All functions throw
/// InputError for shapes or types that disagree, run on the stream's device and may return before the work is
/// done.
namespace flex {

struct LinearArgs {
  ConstTensorView x;                       ///< (R, K)
  ConstTensorView weight;                  ///< (N, K)
  ConstTensorView bias{};                  ///< (N), optional
  std::optional<Activation> activation{};  ///< applied last; left out: none
  /// (R, N) out: what linear_backward needs of a gelu or silu, x weight^T + bias. Left out where nothing is
  /// kept, without an activation, and with relu, whose slope `y` tells.
  TensorView preactivation{};
  TensorView y;                    ///< (R, N); must not alias x
  GemmAlgorithms* gemm = nullptr;  ///< CUDA only: chooses the product's algorithm
};
/// y = act(x weight^T + bias).
void linear(const LinearArgs& args, Stream& stream);

struct LinearBackwardArgs {
  ConstTensorView dy;                      ///< (R, N)
  ConstTensorView x{};                     ///< (R, K), only with dweight
  ConstTensorView weight{};                ///< (N, K), only with dx
  std::optional<Activation> activation{};  ///< of the forward pass
  ConstTensorView kept{};  ///< (R, N), only with an activation: its preactivation, or with relu y
  /// (R, N) out, only with an activation: gradient by x weight^T + bias. May be the memory of dy or of kept.
  TensorView dpreactivation{};
  TensorView dx{};                  ///< (R, K) out, optional: gradient by x; must not alias dy
  bool accumulate_dx = false;       ///< adds to dx instead of overwriting it
  TensorView dweight{};             ///< (N, K) out, optional: sum over the rows
  TensorView dbias{};               ///< (N) out, optional: sum over the rows
  bool accumulate_weights = false;  ///< adds to dweight and dbias instead of overwriting them
  GemmAlgorithms* gemm = nullptr;   ///< CUDA only
};
/// The gradients that are asked for. Sums have a fixed order: equal bits on repeat.
void linear_backward(const LinearBackwardArgs& args, Stream& stream);

template <class T>
void linear_cpu(const LinearArgs& args);
template <class T>
void linear_backward_cpu(const LinearBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void linear_cuda(const LinearArgs& args, Stream& stream);
void linear_backward_cuda(const LinearBackwardArgs& args, Stream& stream);
#endif

}  // namespace flex
