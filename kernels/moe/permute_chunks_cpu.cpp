#include <cstring>

#include "kernels/moe/permute_chunks.h"

namespace flex {
namespace {

// Calls copy(row in exchange order, local expert, row among the expert's) for every row of the chunk.
template <class Copy>
void for_each_row(const PermuteRowsArgs& args, const Copy& copy) {
  for (std::int64_t rank = 0; rank < args.world; ++rank) {
    for (std::int64_t expert = 0; expert < args.local_experts; ++expert) {
      for (std::int64_t slot = 0; slot < args.slots; ++slot) {
        copy((rank * args.local_experts + expert) * args.slots + slot, expert,
             (args.slot_begin + slot) * args.world + rank);
      }
    }
  }
}

void copy_bytes(char* to, const char* from, std::int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

}  // namespace

void rows_to_experts_cpu(const PermuteRowsArgs& args) {
  const std::int64_t row_bytes = args.from.size(1) * size_bytes(args.from.dtype);
  const std::int64_t expert_rows = args.to.size(1);
  for_each_row(args, [&](std::int64_t row, std::int64_t expert, std::int64_t expert_row) {
    copy_bytes(args.to.as<char>() + (expert * expert_rows + expert_row) * row_bytes,
               args.from.as<char>() + row * row_bytes, row_bytes);
  });
}

void rows_from_experts_cpu(const PermuteRowsArgs& args) {
  const std::int64_t row_bytes = args.to.size(1) * size_bytes(args.to.dtype);
  const std::int64_t expert_rows = args.from.size(1);
  for_each_row(args, [&](std::int64_t row, std::int64_t expert, std::int64_t expert_row) {
    copy_bytes(args.to.as<char>() + row * row_bytes,
               args.from.as<char>() + (expert * expert_rows + expert_row) * row_bytes, row_bytes);
  });
}

void strided_chunk_copy_cpu(const StridedChunkCopyArgs& args) {
  for (std::int64_t chunk = 0; chunk < args.rows * args.cols; ++chunk) {
    const std::int64_t source = chunk / args.group * args.parts + chunk % args.group % args.parts;
    const std::int64_t place = chunk % args.rows * args.cols + chunk / args.rows;
    copy_bytes(args.to.as<char>() + place * args.chunk_bytes,
               args.from.as<char>() + source * args.chunk_bytes, args.chunk_bytes);
  }
}

template <class T>
void sum_copies_cpu(const SumCopiesArgs& args) {
  const std::int64_t copies = args.from.size(1);
  const std::int64_t elements = args.to.size(1);
  for (std::int64_t expert = 0; expert < args.to.size(0); ++expert) {
    const T* from = args.from.slice<T>(expert);
    T* to = args.to.slice<T>(expert);
    for (std::int64_t i = 0; i < elements; ++i) {
      T sum = from[i];
      for (std::int64_t copy = 1; copy < copies; ++copy) sum += from[copy * elements + i];
      to[i] = sum;
    }
  }
}

template void sum_copies_cpu<float>(const SumCopiesArgs&);
template void sum_copies_cpu<double>(const SumCopiesArgs&);

}  // namespace flex
