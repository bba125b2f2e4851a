#pragma once

#include "kernels/cosine.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// The gate: one logit per (token, expert). T tokens, M model dim, E experts, P projection dim. Weights,
/// logits and all arithmetic are in gate_dtype(x.dtype): double for double, fp32 (never TF32) for the rest.
/// On CUDA the tensor cores take the products in exact bf16 parts of fp32 numbers; errors stay those of fp32
/// sums (token_products.cuh has the bound), save that a gradient that is written in 16 bits is taken to 2^-14
/// of its terms' magnitudes before it is rounded. All functions throw InputError for shapes or types that
/// disagree, run on the stream's device and may return before the work is done. @source numerics.md "Gate";
/// Tutel's LinearTopKGate and CosineTopKGate.
namespace flex {

struct LinearGateArgs {
  ConstTensorView x;       ///< (T, M)
  ConstTensorView weight;  ///< (E, M)
  TensorView logits;       ///< (T, E)
};
/// logits = x weight^T.
void linear_gate(const LinearGateArgs& args, Stream& stream);

struct LinearGateBackwardArgs {
  ConstTensorView x;           ///< (T, M)
  ConstTensorView weight;      ///< (E, M)
  ConstTensorView dlogits;     ///< (T, E)
  TensorView dweight;          ///< (E, M), overwritten with dlogits^T x
  TensorView dx;               ///< (T, M) in x's type, dlogits weight
  bool accumulate_dx = false;  ///< adds to dx instead of overwriting it
  TensorView workspace{};      ///< (bytes) u8 of linear_gate_backward_workspace_bytes
};
[[nodiscard]] std::int64_t linear_gate_backward_workspace_bytes(std::int64_t num_tokens,
                                                                std::int64_t model_dim,
                                                                std::int64_t num_experts, Device device);
void linear_gate_backward(const LinearGateBackwardArgs& args, Stream& stream);

struct CosineGateArgs {
  ConstTensorView x;                 ///< (T, M)
  ConstTensorView projector_weight;  ///< (P, M)
  ConstTensorView projector_bias;    ///< (P)
  ConstTensorView sim_matrix;        ///< (P, E)
  ConstTensorView temperature;       ///< (1)
  TensorView projected;              ///< (T, P) out, kept for the backward pass: x projector_weight^T + bias
  TensorView
      normalized_sim;  ///< (P, E) out, kept for the backward pass: columns of sim_matrix over their norms
  TensorView logits;   ///< (T, E)
};
/// p = x W^T + b; logits[t,e] = <p[t]/|p[t]|, S[:,e]/|S[:,e]|> exp(min(temperature, ln 100)).
void cosine_gate(const CosineGateArgs& args, Stream& stream);

struct CosineGateBackwardArgs {
  ConstTensorView x;
  ConstTensorView projector_weight;
  ConstTensorView sim_matrix;
  ConstTensorView temperature;
  ConstTensorView projected;       ///< (T, P) from the forward pass
  ConstTensorView normalized_sim;  ///< (P, E) from the forward pass
  ConstTensorView dlogits;         ///< (T, E)
  TensorView dprojected;           ///< (T, P) scratch
  TensorView dprojector_weight;    ///< (P, M) overwritten
  TensorView dprojector_bias;      ///< (P) overwritten
  TensorView dsim_matrix;          ///< (P, E) overwritten
  TensorView dtemperature;         ///< (1) overwritten; zero where the clamp binds
  TensorView dx;                   ///< (T, M) in x's type
  bool accumulate_dx = false;
  TensorView workspace{};  ///< (bytes) u8 of cosine_gate_backward_workspace_bytes
};
[[nodiscard]] std::int64_t cosine_gate_backward_workspace_bytes(std::int64_t num_tokens,
                                                                std::int64_t model_dim, std::int64_t proj_dim,
                                                                std::int64_t num_experts, Device device);
void cosine_gate_backward(const CosineGateBackwardArgs& args, Stream& stream);

template <class T>
void linear_gate_cpu(const LinearGateArgs& args);
template <class T>
void linear_gate_backward_cpu(const LinearGateBackwardArgs& args);
template <class T>
void cosine_gate_cpu(const CosineGateArgs& args);
template <class T>
void cosine_gate_backward_cpu(const CosineGateBackwardArgs& args);

#ifdef FLEX_HAS_CUDA
void linear_gate_cuda(const LinearGateArgs& args, Stream& stream);
void linear_gate_backward_cuda(const LinearGateBackwardArgs& args, Stream& stream);
void cosine_gate_cuda(const CosineGateArgs& args, Stream& stream);
void cosine_gate_backward_cuda(const CosineGateBackwardArgs& args, Stream& stream);
[[nodiscard]] std::int64_t linear_gate_backward_workspace_bytes_cuda(std::int64_t num_tokens,
                                                                     std::int64_t model_dim,
                                                                     std::int64_t num_experts);
[[nodiscard]] std::int64_t cosine_gate_backward_workspace_bytes_cuda(std::int64_t num_tokens,
                                                                     std::int64_t model_dim,
                                                                     std::int64_t proj_dim,
                                                                     std::int64_t num_experts);
#endif

}  // namespace flex
