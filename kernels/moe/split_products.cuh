#pragma once

#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/token_products.cuh"

/// Products in fp32 on the tensor cores without loss to their narrow types: what the kernels of
/// token_products.cuh share. Values are split into bf16 parts, whose products the tensor cores take exactly.
/// Included by .cu files only.
///
/// A part is the value rounded to bf16 (8 bits), the next one what is left of it, rounded: three parts hold
/// all 24 bits of an fp32 number, two hold 16, and part i is at most 2^-8i of the value. (Below 2^-109 the
/// last part meets the end of bf16's range, and the split is exact to 2^-134. Numbers of at least 2^128 -
/// 2^119, and infinities, give NaN.)
///
/// The tensor cores truncate their sums where fp32 units round them, and would drift in long ones. So a
/// tile's products go to accumulators that start at zero, the smallest parts first, and these are added to
/// the result's by the fp32 units after 16 or 32 terms.
namespace flex {

/// Threads of a block of the products.
inline constexpr int kProductThreads = 128;
inline constexpr int kProductWarps = kProductThreads / kWarpSize;
/// Two blocks' worth of work or more for each of the 132 SMs of an H100 or H200.
inline constexpr std::int64_t kProductBlocks = 3 * 132;

/// Extent of mma.m16n8k16: rows of A and of the result, columns of B and of the result, terms.
inline constexpr int kMmaRows = 16;
inline constexpr int kMmaColumns = 8;
inline constexpr int kMmaTerms = 16;

/// Parts that hold a T.
template <class T>
inline constexpr int kNumParts = 3;
template <>
inline constexpr int kNumParts<__half> = 2;
template <>
inline constexpr int kNumParts<__nv_bfloat16> = 1;

// ---- Parts ----------------------------------------------------------------------------------------------

/// The parts of two values; a word holds the part of `first` in its lower half.
template <int kParts>
__device__ inline void split_pair(float first, float second, unsigned (&parts)[kParts]) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    memcpy(&parts[part], &pair, sizeof(pair));
    first -= __uint_as_float(parts[part] << 16);
    second -= __uint_as_float(parts[part] & 0xFFFF0000U);
  }
}

/// Parts of eight values that are the terms of a lane in two mma: words[part][pair].
template <int kParts>
__device__ inline void split_eight(const float (&values)[8], unsigned (&words)[kParts][4]) {
#pragma unroll
  for (int pair = 0; pair < 4; ++pair) {
    unsigned parts[kParts];
    split_pair(values[2 * pair], values[2 * pair + 1], parts);
#pragma unroll
    for (int part = 0; part < kParts; ++part) words[part][pair] = parts[part];
  }
}

/// The same for values of T as they lie in memory, eight in sizeof(T) / 2 vectors.
template <class T>
__device__ inline void split_raw_eight(const uint4 (&raw)[sizeof(T) / 2],
                                       unsigned (&words)[kNumParts<T>][4]) {
  if constexpr (kNumParts<T> == 1) {
    words[0][0] = raw[0].x;
    words[0][1] = raw[0].y;
    words[0][2] = raw[0].z;
    words[0][3] = raw[0].w;
  } else {
    constexpr int kWidth = kVectorWidth<T>;
    float values[8];
#pragma unroll
    for (int vector = 0; vector < 8 / kWidth; ++vector) {
      float some[kWidth];
      Pack<T, kWidth>::unpack(raw[vector], some);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[vector * kWidth + i] = some[i];
    }
    split_eight(values, words);
  }
}

// ---- Products -------------------------------------------------------------------------------------------

/// result = a b + sum: 16 x 16 terms of bf16 in A, 16 x 8 in B. With g = lane / 4 and t = lane % 4, a lane
/// has of A the words {row g, terms of t}, {row g + 8, terms of t}, {row g, terms of t + 4}, {row g + 8,
/// terms of t + 4}, of B {terms of t, column g}, {terms of t + 4, column g}, two terms a word, and of the
/// result {row g, columns 2t, 2t + 1}, {row g + 8, columns 2t, 2t + 1}. Which terms these are is the caller's
/// choice, the same in A and B. @source PTX ISA, "Matrix Fragments for mma.m16n8k16"
__device__ inline void mma_bf16(float (&result)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                const float (&sum)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%10, %11, %12, %13};"
      : "=f"(result[0]), "=f"(result[1]), "=f"(result[2]), "=f"(result[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(sum[0]), "f"(sum[1]),
        "f"(sum[2]), "f"(sum[3]));
}

/// sums += the products of A's and B's parts whose numbers add up to at most kLast, for kM x kN tiles, from
/// the smallest parts to the largest. a[tile][part][step], b[tile][part][step].
template <int kLast, int kM, int kN, int kPartsA, int kPartsB, int kSteps>
__device__ inline void add_products(float (&sums)[kM][kN][4], const unsigned (&a)[kM][kPartsA][kSteps][4],
                                    const unsigned (&b)[kN][kPartsB][kSteps][2]) {
  float fresh[kM][kN][4] = {};
#pragma unroll
  for (int level = kLast; level >= 0; --level) {
#pragma unroll
    for (int part = 0; part < kPartsA; ++part) {
      const int other = level - part;
      if (other < 0 || other >= kPartsB) continue;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int m = 0; m < kM; ++m)
            mma_bf16(fresh[m][n], a[m][part][step], b[n][other][step], fresh[m][n]);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] += fresh[m][n][i];
    }
  }
}

// ---- Memory ---------------------------------------------------------------------------------------------

/// Copies kBytes (4, 8 or 16) to shared memory asynchronously, or zeros unless `inside`.
template <int kBytes>
__device__ inline void copy_async(void* to, const void* from, bool inside) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = inside ? kBytes : 0;
  if constexpr (kBytes == kVectorBytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(kBytes),
                 "r"(bytes)
                 : "memory");
  }
}
/// Ends a group of this thread's copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until all but the kPending latest groups of this thread are there.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Stages 16 bytes of a row from `column` on, with zeros from `num_columns` on and where not `inside`. With
/// `vectors` (see whole_vectors) that is asynchronous; otherwise elements are copied one by one.
template <class T>
__device__ inline void stage_vector(unsigned char* to, const T* row, std::int64_t column,
                                    std::int64_t num_columns, bool inside, bool vectors) {
  if (vectors) {
    const bool within = inside && column < num_columns;
    copy_async<kVectorBytes>(to, within ? row + column : row, within);
    return;
  }
  T* elements = reinterpret_cast<T*>(to);
#pragma unroll
  for (int i = 0; i < kVectorWidth<T>; ++i) {
    elements[i] = inside && column + i < num_columns ? row[column + i] : from_float<T>(0.0F);
  }
}

/// Elements (row, column) to (row, column + 7), zeros past the ends.
__device__ inline void read_eight(const StridedMatrix<const float>& matrix, std::int64_t row,
                                  std::int64_t column, bool vectors, float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = 0.0F;
  if (row >= matrix.rows) return;
  const float* from = matrix.data + row * matrix.row_stride;
  if (vectors) {
#pragma unroll
    for (int four = 0; four < 8; four += 4) {
      if (column + four >= matrix.cols) continue;
      const float4 vector = *reinterpret_cast<const float4*>(from + column + four);
      values[four] = vector.x;
      values[four + 1] = vector.y;
      values[four + 2] = vector.z;
      values[four + 3] = vector.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (column + i < matrix.cols) values[i] = from[(column + i) * matrix.col_stride];
  }
}

/// True if rows of `columns` elements of `bytes` each, `row_stride` apart, can be moved by accesses of
/// `access` bytes.
inline bool whole_vectors(const void* data, std::int64_t columns, std::int64_t row_stride,
                          std::int64_t col_stride, std::int64_t bytes, std::int64_t access = kVectorBytes) {
  return col_stride == 1 && columns * bytes % access == 0 && row_stride * bytes % access == 0 &&
         aligned_to({data}, static_cast<std::uintptr_t>(access));
}

}  // namespace flex
