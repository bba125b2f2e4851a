#pragma once

#include <cstdint>

#include "kernels/stream.h"
#include "kernels/tensor.h"

/// Copies that reorder equal chunks. All take any element type: they move bytes.
namespace flex {

/// Rows as an exchange delivers them, (W, L, S) by source rank, local expert and slot, against rows as
/// experts read them, (L, capacity, W) by local expert, slot and source rank. In the experts' order any range
/// of slots is one contiguous piece of each expert, so that the backward pass may use another pipeline degree
/// than the forward pass over the same memory.
struct PermuteRowsArgs {
  ConstTensorView from;
  TensorView to;
  std::int64_t world = 1;          ///< W
  std::int64_t local_experts = 1;  ///< L
  std::int64_t slots = 0;          ///< S, slots of this chunk
  std::int64_t slot_begin =
      0;  ///< where the chunk begins among the `slot_capacity` slots of the experts' order
  std::int64_t slot_capacity = 0;
};
/// from (W*L*S, M) in exchange order, to (L, slot_capacity * W, M) in the experts' order; only the chunk's
/// rows are written.
void rows_to_experts(const PermuteRowsArgs& args, Stream& stream);
/// from (L, slot_capacity * W, M) in the experts' order, to (W*L*S, M) in exchange order.
void rows_from_experts(const PermuteRowsArgs& args, Stream& stream);

/// The strided copy of the 2D hierarchical All-to-All.
struct StridedChunkCopyArgs {
  ConstTensorView from;
  TensorView to;
  std::int64_t rows = 1;
  std::int64_t cols = 1;
  std::int64_t chunk_bytes = 0;
  /// Chunk i is read at position (i / group) * parts + (i % group) % parts: one piece of memory serves the
  /// group / parts ranks that get a copy of it. Equal values: position i.
  std::int64_t group = 1;
  std::int64_t parts = 1;
};
/// Sends chunk i to place (i mod rows) * cols + i div rows. Chunks are rows * cols in number.
void strided_chunk_copy(const StridedChunkCopyArgs& args, Stream& stream);

struct SumCopiesArgs {
  ConstTensorView from;  ///< (E, r, N): r partial sums of each expert's piece
  TensorView to;         ///< (E, N)
};
/// to[e] = sum over g, in order, of from[e, g].
void sum_copies(const SumCopiesArgs& args, Stream& stream);

void rows_to_experts_cpu(const PermuteRowsArgs& args);
void rows_from_experts_cpu(const PermuteRowsArgs& args);
void strided_chunk_copy_cpu(const StridedChunkCopyArgs& args);
template <class T>
void sum_copies_cpu(const SumCopiesArgs& args);

#ifdef FLEX_HAS_CUDA
void rows_to_experts_cuda(const PermuteRowsArgs& args, Stream& stream);
void rows_from_experts_cuda(const PermuteRowsArgs& args, Stream& stream);
void strided_chunk_copy_cuda(const StridedChunkCopyArgs& args, Stream& stream);
void sum_copies_cuda(const SumCopiesArgs& args, Stream& stream);
#endif

}  // namespace flex
