#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

#include "kernels/cuda_launch.cuh"

/// What the products over tokens share: a warp moves 256 neighbouring channels of a row, 8 a lane, in 16-byte
/// accesses, through shared memory.
namespace flex {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileWarps = kTileThreads / kWarpSize;
inline constexpr int kTileColumns = 256;
inline constexpr int kLaneColumns = kTileColumns / kWarpSize;

/// Fp32 values of a tile's row lie in shared memory as [half][lane][4], so that every lane reads its eight by
/// two accesses without bank conflicts. This is the place of column `column`: a lane's columns are the ones
/// that it gets by 16-byte accesses to a row of T, which are eight neighbours for 16-bit types, and four in
/// each half of the row for fp32.
template <class T>
__device__ constexpr int tile_place(int column) {
  if constexpr (sizeof(T) == sizeof(float))
    return column;
  else
    return column % 8 / 4 * (kTileColumns / 2) + column / 8 * 4 + column % 4;
}
/// First of the four columns of `lane` in `half`.
template <class T>
__device__ constexpr int lane_column(int lane, int half) {
  if constexpr (sizeof(T) == sizeof(float))
    return half * (kTileColumns / 2) + lane * 4;
  else
    return lane * 8 + half * 4;
}

/// Copies 16 bytes of a row into shared memory, with zeros from `num_columns` on. With `vectors` (rows are
/// 16-byte aligned and num_columns is a multiple of the access) that is asynchronous and counts for the next
/// __pipeline_commit(); otherwise elements are copied one by one, `stride` apart.
template <class T>
__device__ inline void stage_pack(T* to, const T* row, std::int64_t column, std::int64_t num_columns,
                                  std::int64_t stride, bool vectors) {
  if (vectors) {
    const bool inside = column < num_columns;
    __pipeline_memcpy_async(to, inside ? row + column : row, kVectorBytes, inside ? 0 : kVectorBytes);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVectorWidth<T>; ++i) {
    to[i] = column + i < num_columns ? row[(column + i) * stride] : from_float<T>(0.0F);
  }
}

/// This lane's share of columns [first, first + kTileColumns) of a row.
template <class T>
__device__ inline void stage_lane(T* to, const T* row, std::int64_t first, std::int64_t num_columns, int lane,
                                  bool vectors) {
#pragma unroll
  for (int access = 0; access < kLaneColumns / kVectorWidth<T>; ++access) {
    const int column = lane_column<T>(lane, access);  // 16-bit types need one access only
    stage_pack(to + column, row, first + column, num_columns, 1, vectors);
  }
}

/// The four values of `lane` in `half` of a staged row.
template <class T>
__device__ inline void read_quad(const T* row, int lane, int half, float (&values)[4]) {
  const T* from = row + lane_column<T>(lane, half);
  if constexpr (sizeof(T) == sizeof(float)) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[0] = four.x;
    values[1] = four.y;
    values[2] = four.z;
    values[3] = four.w;
  } else {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    float unpacked[8];
    Pack<T, 8>::unpack(make_uint4(words.x, words.y, 0, 0), unpacked);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = unpacked[i];
  }
}

/// Stages rows [first_row, first_row + kRows) of a matrix of fp32 as tile rows for T. Called by whole blocks.
template <class T, int kRows>
__device__ inline void stage_weights(float* to, const float* weights, std::int64_t first_row,
                                     std::int64_t num_rows, std::int64_t first_column,
                                     std::int64_t num_columns, std::int64_t row_stride,
                                     std::int64_t col_stride, bool vectors) {
  constexpr int kQuads = kTileColumns / 4;
  for (int i = threadIdx.x; i < kRows * kQuads; i += kTileThreads) {
    const int row = i / kQuads;
    const int column = i % kQuads * 4;
    // A row past the end is read as the last one: its results are not used.
    const float* from = weights + min(first_row + row, num_rows - 1) * row_stride;
    stage_pack(to + row * kTileColumns + tile_place<T>(column), from, first_column + column, num_columns,
               col_stride, vectors);
  }
}

/// Sums kCount values over the lanes of a warp, spread over them at the end: lane l has the sums of values
/// l * kCount / 32 + i in values[i]. (Below 32 values, lanes share one.) Costs about kCount shuffles, not
/// 5 kCount.
template <int kCount, int kSize = kCount, int kOffset = kWarpSize / 2>
__device__ inline void fold_lanes(float (&values)[kCount], int lane) {
  if constexpr (kOffset > 0) {
    if constexpr (kSize > 1) {
      constexpr int kHalf = kSize / 2;
      const bool upper = (lane & kOffset) != 0;
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float sent = upper ? values[i] : values[i + kHalf];
        const float kept = upper ? values[i + kHalf] : values[i];
        values[i] = kept + __shfl_xor_sync(kFullWarp, sent, kOffset);
      }
      fold_lanes<kCount, kHalf, kOffset / 2>(values, lane);
    } else {
      values[0] += __shfl_xor_sync(kFullWarp, values[0], kOffset);
      fold_lanes<kCount, 1, kOffset / 2>(values, lane);
    }
  }
}

/// True if rows of `columns` elements of `bytes` each, `row_stride` apart, can be moved by 16-byte accesses.
inline bool tile_vectors(const void* data, std::int64_t columns, std::int64_t row_stride,
                         std::int64_t col_stride, std::int64_t bytes) {
  return col_stride == 1 && columns * bytes % kVectorBytes == 0 && row_stride * bytes % kVectorBytes == 0 &&
         aligned_to({data}, kVectorBytes);
}

}  // namespace flex
