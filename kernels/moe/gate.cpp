#include "kernels/moe/gate.h"

#include "kernels/check.h"

namespace flex {
namespace {

void check_linear_gate(const LinearGateArgs& args, Device device) {
  const ArgumentCheck check("linear_gate", device);
  const DType dtype = args.x.dtype;
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t model_dim = args.x.size(1);
  const std::int64_t experts = args.weight.size(0);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {tokens, model_dim});
  check.tensor("weight", args.weight, gate_dtype(dtype), {experts, model_dim});
  check.tensor("logits", args.logits, gate_dtype(dtype), {tokens, experts});
}

void check_linear_gate_backward(const LinearGateBackwardArgs& args, Device device) {
  const ArgumentCheck check("linear_gate_backward", device);
  const DType dtype = args.x.dtype;
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t model_dim = args.x.size(1);
  const std::int64_t experts = args.weight.size(0);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {tokens, model_dim});
  check.tensor("weight", args.weight, gate_dtype(dtype), {experts, model_dim});
  check.tensor("dlogits", args.dlogits, gate_dtype(dtype), {tokens, experts});
  check.tensor("dweight", args.dweight, gate_dtype(dtype), {experts, model_dim});
  check.tensor("dx", args.dx, dtype, {tokens, model_dim});
  check.workspace(args.workspace, linear_gate_backward_workspace_bytes(tokens, model_dim, experts, device));
}

void check_cosine_gate(const CosineGateArgs& args, Device device) {
  const ArgumentCheck check("cosine_gate", device);
  const DType dtype = args.x.dtype;
  const DType gate = gate_dtype(dtype);
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t model_dim = args.x.size(1);
  const std::int64_t proj_dim = args.projector_weight.size(0);
  const std::int64_t experts = args.sim_matrix.size(1);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {tokens, model_dim});
  check.tensor("projector_weight", args.projector_weight, gate, {proj_dim, model_dim});
  check.tensor("projector_bias", args.projector_bias, gate, {proj_dim});
  check.tensor("sim_matrix", args.sim_matrix, gate, {proj_dim, experts});
  check.tensor("temperature", args.temperature, gate, {1});
  check.tensor("projected", args.projected, gate, {tokens, proj_dim});
  check.tensor("normalized_sim", args.normalized_sim, gate, {proj_dim, experts});
  check.tensor("logits", args.logits, gate, {tokens, experts});
}

void check_cosine_gate_backward(const CosineGateBackwardArgs& args, Device device) {
  const ArgumentCheck check("cosine_gate_backward", device);
  const DType dtype = args.x.dtype;
  const DType gate = gate_dtype(dtype);
  const std::int64_t tokens = args.x.size(0);
  const std::int64_t model_dim = args.x.size(1);
  const std::int64_t proj_dim = args.projector_weight.size(0);
  const std::int64_t experts = args.sim_matrix.size(1);
  check.require_compute_dtype("x", dtype);
  check.tensor("x", args.x, dtype, {tokens, model_dim});
  check.tensor("projector_weight", args.projector_weight, gate, {proj_dim, model_dim});
  check.tensor("sim_matrix", args.sim_matrix, gate, {proj_dim, experts});
  check.tensor("temperature", args.temperature, gate, {1});
  check.tensor("projected", args.projected, gate, {tokens, proj_dim});
  check.tensor("normalized_sim", args.normalized_sim, gate, {proj_dim, experts});
  check.tensor("dlogits", args.dlogits, gate, {tokens, experts});
  check.tensor("dprojected", args.dprojected, gate, {tokens, proj_dim});
  check.tensor("dprojector_weight", args.dprojector_weight, gate, {proj_dim, model_dim});
  check.tensor("dprojector_bias", args.dprojector_bias, gate, {proj_dim});
  check.tensor("dsim_matrix", args.dsim_matrix, gate, {proj_dim, experts});
  check.tensor("dtemperature", args.dtemperature, gate, {1});
  check.tensor("dx", args.dx, dtype, {tokens, model_dim});
  check.workspace(args.workspace,
                  cosine_gate_backward_workspace_bytes(tokens, model_dim, proj_dim, experts, device));
}

}  // namespace

std::int64_t linear_gate_backward_workspace_bytes([[maybe_unused]] std::int64_t num_tokens,
                                                  [[maybe_unused]] std::int64_t model_dim,
                                                  [[maybe_unused]] std::int64_t num_experts,
                                                  [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) return linear_gate_backward_workspace_bytes_cuda(num_tokens, model_dim, num_experts);
#endif
  return 0;
}

std::int64_t cosine_gate_backward_workspace_bytes([[maybe_unused]] std::int64_t num_tokens,
                                                  [[maybe_unused]] std::int64_t model_dim,
                                                  [[maybe_unused]] std::int64_t proj_dim,
                                                  [[maybe_unused]] std::int64_t num_experts,
                                                  [[maybe_unused]] Device device) {
#ifdef FLEX_HAS_CUDA
  if (device.is_cuda()) {
    return cosine_gate_backward_workspace_bytes_cuda(num_tokens, model_dim, proj_dim, num_experts);
  }
#endif
  return 0;
}

void linear_gate(const LinearGateArgs& args, Stream& stream) {
  check_linear_gate(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return linear_gate_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { linear_gate_cpu<T>(args); });
}

void linear_gate_backward(const LinearGateBackwardArgs& args, Stream& stream) {
  check_linear_gate_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return linear_gate_backward_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { linear_gate_backward_cpu<T>(args); });
}

void cosine_gate(const CosineGateArgs& args, Stream& stream) {
  check_cosine_gate(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return cosine_gate_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { cosine_gate_cpu<T>(args); });
}

void cosine_gate_backward(const CosineGateBackwardArgs& args, Stream& stream) {
  check_cosine_gate_backward(args, stream.device());
#ifdef FLEX_HAS_CUDA
  if (stream.device().is_cuda()) return cosine_gate_backward_cuda(args, stream);
#endif
  enqueue_as(args.x.dtype, stream, [args]<class T>() { cosine_gate_backward_cpu<T>(args); });
}

}  // namespace flex
