#include "kernels/moe/gate.h"
#include "kernels/moe/token_products.cuh"

namespace flex {

void linear_gate_cuda(const LinearGateArgs& args, Stream& stream) {
  dot_rows_cuda(args.x, row_major(args.weight), nullptr, args.logits, stream);
}

void linear_gate_backward_cuda(const LinearGateBackwardArgs& args, Stream& stream) {
  sum_outer_cuda(args.dlogits, args.x, row_major(args.dweight), args.workspace.as<float>(), stream);
  combine_rows_cuda(args.dlogits, row_major(args.weight), args.dx, args.accumulate_dx, stream);
}

std::int64_t linear_gate_backward_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t model_dim,
                                                       std::int64_t num_experts) {
  return sum_outer_workspace_bytes(num_tokens, num_experts, model_dim);
}

}  // namespace flex
