#pragma once

#include <cstdint>

#include "kernels/gemm_scratch.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/route.h"
#include "kernels/moe/slot_layout.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex::bench {

/// Sizes of one MoE layer on one GPU.
struct LayerSizes {
  std::int64_t tokens, model_dim, experts, top_k;
  double capacity_factor;
};

/// One set of the buffers that gate, its loss, routing, encode and decode work on, inputs random.
struct LayerSet {
  Tensor x, weight, logits, scores, indices, gates, locations, counts, needed, workspace;
  Tensor buffer, y, dy, dbuffer, dgates, dx, dlogits, dweight, gate_workspace, loss_sums, loss_workspace;
  SlotLayout layout;

  LayerSet(const LayerSizes& row, DType dtype, std::uint64_t seed, Stream& stream)
      : x(dtype, {row.tokens, row.model_dim}, stream.device()),
        weight(DType::kF32, {row.experts, row.model_dim}, stream.device()),
        logits(DType::kF32, {row.tokens, row.experts}, stream.device()),
        scores(DType::kF32, {row.tokens, row.experts}, stream.device()),
        indices(DType::kI32, {row.tokens, row.top_k}, stream.device()),
        gates(DType::kF32, {row.tokens, row.top_k}, stream.device()),
        locations(DType::kI32, {row.tokens, row.top_k}, stream.device()),
        counts(DType::kI32, {row.experts}, stream.device()),
        needed(DType::kI32, {1}, stream.device()),
        workspace(DType::kU8,
                  {route_workspace_bytes(row.tokens, row.experts, row.top_k, DType::kF32, stream.device())},
                  stream.device()),
        y(dtype, x.shape(), stream.device()),
        dy(dtype, x.shape(), stream.device()),
        dgates(DType::kF32, gates.shape(), stream.device()),
        dx(dtype, x.shape(), stream.device()),
        dlogits(DType::kF32, logits.shape(), stream.device()),
        dweight(DType::kF32, weight.shape(), stream.device()),
        gate_workspace(
            DType::kU8,
            {linear_gate_backward_workspace_bytes(row.tokens, row.model_dim, row.experts, stream.device())},
            stream.device()),
        loss_sums(DType::kF64, {gate_loss_num_sums(row.experts)}, stream.device()),
        loss_workspace(DType::kU8, {gate_loss_workspace_bytes(row.tokens, row.experts, stream.device())},
                       stream.device()) {
    layout = {.num_experts = row.experts,
              .capacity = expert_capacity(row.top_k, row.capacity_factor, row.tokens, row.experts, 0)};
    buffer = Tensor(dtype, {layout.num_rows(), row.model_dim}, stream.device());
    dbuffer = Tensor(dtype, buffer.shape(), stream.device());
    fill(x, seed, stream);
    fill(weight, seed + 1, stream);
    fill(dy, seed + 2, stream);
    fill(dlogits, seed + 3, stream);
  }
  static void fill(Tensor& tensor, std::uint64_t seed, Stream& stream) {
    fill_uniform_cuda(tensor.view().data, tensor.dtype(), tensor.num_elements(), seed, stream.native());
  }
};

}  // namespace flex::bench
