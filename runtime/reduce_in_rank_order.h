#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>

#include "base/error.h"
#include "kernels/dtype.h"
#include "runtime/communicator.h"

/// The arithmetic of reductions on the CPU, one for all implementations, so that they agree bit by bit.
namespace flex {

/// Reduces `count` elements over `num_sources` pieces, piece 0 first, each in its own type. `source(p)` is
/// the start of piece p; `store(block, begin, size)` takes the finished elements [begin, begin + size). A
/// block is stored after all pieces of it were read, so that the result may overwrite a piece. kMax passes a
/// NaN on.
template <class T, class Source, class Store>
void reduce_in_rank_order(int num_sources, std::int64_t count, ReduceOp op, Source source, Store store) {
  constexpr std::int64_t kBlock = 1024;  // two blocks of doubles stay in the first-level cache
  std::array<T, kBlock> block;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t size = std::min(kBlock, count - begin);
    std::copy_n(source(0) + begin, size, block.data());
    for (int p = 1; p < num_sources; ++p) {
      const T* piece = source(p) + begin;
      T* sum = block.data();
      if (op == ReduceOp::kSum) {
        for (std::int64_t i = 0; i < size; ++i) sum[i] += piece[i];
      } else {
        for (std::int64_t i = 0; i < size; ++i) {
          sum[i] = piece[i] > sum[i] || piece[i] != piece[i] ? piece[i] : sum[i];
        }
      }
    }
    store(block.data(), begin, size);
  }
}

/// Calls `run(T{})` with the C++ type of `dtype`, one of those that the CPU reduces.
template <class Run>
void with_reduced_type(DType dtype, Run run) {
  switch (dtype) {
    case DType::kF64:
      return run(double{});
    case DType::kF32:
      return run(float{});
    case DType::kI64:
      return run(std::int64_t{});
    case DType::kI32:
      return run(std::int32_t{});
    default:
      throw InputError("a reduction of this element type does not exist on the CPU");
  }
}

}  // namespace flex
