#include <algorithm>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/permute_chunks.h"

namespace flex {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // accesses of a thread in flight

// Copies of pieces of equal size: Word is the widest access that piece size and addresses allow.
template <class Word, class Map>
__global__ void __launch_bounds__(kThreads) copy_pieces_kernel(const Word* from, Word* to, std::int64_t words,
                                                               std::int64_t blocks_per_piece, Map map) {
  const std::int64_t piece = blockIdx.x / blocks_per_piece;
  const std::int64_t begin = (blockIdx.x - piece * blocks_per_piece) * (kThreads * kUnroll) + threadIdx.x;
  const Word* source = from + map.source(piece) * words;
  Word* target = to + map.target(piece) * words;
  Word held[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t word = begin + u * kThreads;
    if (word < words) held[u] = source[word];
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t word = begin + u * kThreads;
    if (word < words) target[word] = held[u];
  }
}

// The same for pieces of a few words: a warp each, several pieces a block.
template <class Word, class Map>
__global__ void __launch_bounds__(kThreads)
    copy_small_pieces_kernel(const Word* from, Word* to, std::int64_t num_pieces, std::int64_t words,
                             Map map) {
  const std::int64_t piece =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (piece >= num_pieces) return;
  const Word* source = from + map.source(piece) * words;
  Word* target = to + map.target(piece) * words;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (std::int64_t first = lane; first < words; first += kWarpSize * kUnroll) {
    Word held[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t word = first + u * kWarpSize;
      if (word < words) held[u] = source[word];
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t word = first + u * kWarpSize;
      if (word < words) target[word] = held[u];
    }
  }
}

template <class Word, class Map>
void copy_words(const void* from, void* to, std::int64_t num_pieces, std::int64_t piece_bytes, const Map& map,
                cudaStream_t stream) {
  const std::int64_t words = piece_bytes / static_cast<std::int64_t>(sizeof(Word));
  const auto* source = static_cast<const Word*>(from);
  auto* target = static_cast<Word*>(to);
  if (words < kThreads * kUnroll) {
    constexpr std::int64_t kPiecesPerBlock = kThreads / kWarpSize;
    copy_small_pieces_kernel<<<grid_size(ceil_div(num_pieces, kPiecesPerBlock)), kThreads, 0, stream>>>(
        source, target, num_pieces, words, map);
  } else {
    const std::int64_t blocks_per_piece = ceil_div<std::int64_t>(words, kThreads * kUnroll);
    copy_pieces_kernel<<<grid_size(num_pieces * blocks_per_piece), kThreads, 0, stream>>>(
        source, target, words, blocks_per_piece, map);
  }
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// Piece i goes from place map.source(i) to place map.target(i), both in units of pieces.
template <class Map>
void copy_pieces(const void* from, void* to, std::int64_t num_pieces, std::int64_t piece_bytes,
                 const Map& map, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  if (num_pieces == 0 || piece_bytes == 0) return;
  const auto fits = [&](std::int64_t bytes) {
    return piece_bytes % bytes == 0 && aligned_to({from, to}, static_cast<std::uintptr_t>(bytes));
  };
  if (fits(sizeof(uint4))) return copy_words<uint4>(from, to, num_pieces, piece_bytes, map, native);
  if (fits(sizeof(unsigned))) return copy_words<unsigned>(from, to, num_pieces, piece_bytes, map, native);
  if (fits(sizeof(unsigned short))) {
    return copy_words<unsigned short>(from, to, num_pieces, piece_bytes, map, native);
  }
  copy_words<unsigned char>(from, to, num_pieces, piece_bytes, map, native);
}

// Row `i` in exchange order, (rank, expert, slot), and its place in the experts' order.
struct RowOrders {
  std::int64_t world;
  std::int64_t local_experts;
  std::int64_t slots;
  std::int64_t slot_begin;
  std::int64_t slot_capacity;

  __device__ std::int64_t expert_row(std::int64_t i) const {
    const std::int64_t piece = i / slots;
    const std::int64_t slot = i - piece * slots;
    const std::int64_t rank = piece / local_experts;
    const std::int64_t expert = piece - rank * local_experts;
    return (expert * slot_capacity + slot_begin + slot) * world + rank;
  }
};

struct ToExperts {
  RowOrders orders;
  __device__ std::int64_t source(std::int64_t i) const { return i; }
  __device__ std::int64_t target(std::int64_t i) const { return orders.expert_row(i); }
};

struct FromExperts {
  RowOrders orders;
  __device__ std::int64_t source(std::int64_t i) const { return orders.expert_row(i); }
  __device__ std::int64_t target(std::int64_t i) const { return i; }
};

struct ChunkGrid {
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t group;
  std::int64_t parts;
  __device__ std::int64_t source(std::int64_t i) const { return i / group * parts + i % group % parts; }
  __device__ std::int64_t target(std::int64_t i) const { return i % rows * cols + i / rows; }
};

RowOrders row_orders(const PermuteRowsArgs& args) {
  return {args.world, args.local_experts, args.slots, args.slot_begin, args.slot_capacity};
}

// One thread for kWidth neighbouring elements of `to`.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    sum_copies_kernel(const T* from, T* to, std::int64_t num_packs, std::int64_t packs_per_piece,
                      std::int64_t copies) {
  using Access = Pack<T, kWidth>;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= num_packs) return;
  const std::int64_t expert = i / packs_per_piece;
  const T* first = from + (expert * copies * packs_per_piece + (i - expert * packs_per_piece)) * kWidth;
  float sum[kWidth];
  Access::unpack(Access::load(first), sum);
#pragma unroll 4
  for (std::int64_t copy = 1; copy < copies; ++copy) {
    float values[kWidth];
    Access::unpack(Access::load(first + copy * packs_per_piece * kWidth), values);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) sum[e] += values[e];
  }
  Access::store(to + i * kWidth, Access::pack(sum));
}

template <class T, int kWidth>
void launch_sum_copies(const SumCopiesArgs& args, cudaStream_t stream) {
  const std::int64_t packs_per_piece = args.to.size(1) / kWidth;
  const std::int64_t num_packs = args.to.size(0) * packs_per_piece;
  sum_copies_kernel<T, kWidth>
      <<<grid_size(ceil_div<std::int64_t>(num_packs, kThreads)), kThreads, 0, stream>>>(
          args.from.as<T>(), args.to.as<T>(), num_packs, packs_per_piece, args.from.size(1));
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void rows_to_experts_cuda(const PermuteRowsArgs& args, Stream& stream) {
  copy_pieces(args.from.data, args.to.data, args.from.size(0),
              args.from.size(1) * size_bytes(args.from.dtype), ToExperts{row_orders(args)}, stream);
}

void rows_from_experts_cuda(const PermuteRowsArgs& args, Stream& stream) {
  copy_pieces(args.from.data, args.to.data, args.to.size(0), args.to.size(1) * size_bytes(args.to.dtype),
              FromExperts{row_orders(args)}, stream);
}

void strided_chunk_copy_cuda(const StridedChunkCopyArgs& args, Stream& stream) {
  copy_pieces(args.from.data, args.to.data, args.rows * args.cols, args.chunk_bytes,
              ChunkGrid{args.rows, args.cols, args.group, args.parts}, stream);
}

void sum_copies_cuda(const SumCopiesArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  if (args.to.num_elements() == 0) return;
  const bool aligned = args.to.size(1) * size_bytes(args.to.dtype) % kVectorBytes == 0 &&
                       aligned_to({args.from.data, args.to.data}, kVectorBytes);
  dispatch_dtype(args.to.dtype, [&]<class T>() {
    aligned ? launch_sum_copies<T, kVectorWidth<T>>(args, native) : launch_sum_copies<T, 1>(args, native);
  });
}

}  // namespace flex
