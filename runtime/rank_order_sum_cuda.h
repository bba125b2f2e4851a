#pragma once

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/stream.h"
#include "runtime/communicator.h"

namespace flex {

/// Arguments of reduce_in_rank_order_cuda. They travel as the kernel's parameters.
struct RankOrderReductionArgs {
  static constexpr int kMostRanks = 64;

  const void* from[kMostRanks] = {};  ///< num_ranks pieces of `count` elements
  void* to[kMostRanks] = {};          ///< num_to places that all get the result
  int num_ranks = 0;
  int num_to = 0;
  std::int64_t count = 0;
  DType dtype = DType::kF32;  ///< all but u8
  ReduceOp op = ReduceOp::kSum;
};

/// Reduces pieces element by element, piece 0 first, in one launch, and writes the result to all places. A
/// place may be a piece, but overlaps no piece in part. fp32, fp16 and bf16 are summed in fp32 and rounded
/// once, other types in their own: equal inputs give equal bits, for fp32, fp64 and integers those of the
/// CPU. kMax passes a NaN on. The launch is 16 bytes wide where all addresses are multiples of 16.
void reduce_in_rank_order_cuda(const RankOrderReductionArgs& args, Stream& stream);

}  // namespace flex
