#pragma once

#include <type_traits>

#include "kernels/moe/split_products.cuh"
#include "kernels/nn/attention_params.cuh"

/// The tensor cores' part in window attention of 16-bit types. Included by .cu files only.
///
/// A warp has 16 rows (queries, or in half of the backward pass keys) against all slots of the window, 16 at
/// a time. With g = lane / 4 and t = lane % 4 it holds of a tile of 16 x 16 results, in two halves of 8
/// columns, {row g, columns 2t, 2t + 1}, {row g + 8, columns 2t, 2t + 1}: packed, these are the words of a 16
/// x 16 left operand, so that weights go from one product to the next in registers.
namespace flex {

/// Elements between rows in shared memory: 16 bytes of padding let eight rows lie in different banks.
template <int kDim>
inline constexpr int kRowStride = kDim + 8;
inline constexpr int kMmaTile = 16;
/// A warp for each tile of the largest window, and of one of 12 x 12. Blocks of at most the latter are
/// compiled for fewer registers, so that several of them share an SM.
inline constexpr int kMostMmaThreads = static_cast<int>(kMaxWindowSize) / kMmaTile * kWarpSize;
inline constexpr int kSmallMmaThreads = 12 * 12 / kMmaTile * kWarpSize;

/// Slots of a window in whole tiles.
FLEX_HOST_DEVICE inline int padded_slots(std::int64_t window_size) {
  return static_cast<int>(ceil_div<std::int64_t>(window_size, kMmaTile) * kMmaTile);
}

/// Threads of a block.
inline unsigned mma_threads(const AttentionParams& p) {
  return static_cast<unsigned>(padded_slots(p.window_size) / kMmaTile * kWarpSize);
}

/// Calls function.operator()<T, kDim>() where the tensor cores take heads of this type and size; false, with
/// nothing called, for others.
template <class Function>
bool dispatch_mma(DType dtype, std::int64_t head_dim, Function&& function) {
  if (dtype == DType::kF32 || (head_dim != 16 && head_dim != 32)) return false;
  const auto with_type = [&]<class T>() {
    head_dim == 16 ? function.template operator()<T, 16>() : function.template operator()<T, 32>();
  };
  dtype == DType::kF16 ? with_type.template operator()<__half>()
                       : with_type.template operator()<__nv_bfloat16>();
  return true;
}

template <class T>
__device__ inline unsigned pack_pair(float first, float second) {
  unsigned word;
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(first, second);
    memcpy(&word, &pair, sizeof(word));
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    memcpy(&word, &pair, sizeof(word));
  }
  return word;
}
template <class T>
__device__ inline float2 unpack_pair(unsigned word) {
  if constexpr (std::is_same_v<T, __half>) {
    __half2 pair;
    memcpy(&pair, &word, sizeof(word));
    return __half22float2(pair);
  } else {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000U));
  }
}

/// sum += a b, as mma_bf16 has it.
template <class T>
__device__ inline void multiply_add_tile(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    mma_bf16(sum, a, b, sum);
  }
}

/// Four 8 x 8 matrices of 16-bit elements in shared memory; lane 8 i + r passes the address of row r of
/// matrix i. A lane gets {row g, columns 2t, 2t + 1} of each, or {rows 2t, 2t + 1, column g} if transposed.
/// @source PTX ISA, ldmatrix
template <bool kTransposed>
__device__ inline void load_matrices(const void* row, unsigned (&words)[4]) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
  }
}

/// 16 rows of kDim elements as left operands, 16 columns each.
template <int kDim>
using LeftRows = unsigned[kDim / kMmaTile][4];

template <int kDim, class T>
__device__ inline void load_left(const T* rows, int lane, LeftRows<kDim>& left) {
  const T* row = rows + lane % 16 * kRowStride<kDim> + lane / 16 * 8;  // matrices: rows 0, 8, then columns 8
#pragma unroll
  for (int step = 0; step < kDim / kMmaTile; ++step) load_matrices<false>(row + step * kMmaTile, left[step]);
}

/// result += left rows^T: products of 16 rows with 16 rows in shared memory.
template <int kDim, class T>
__device__ inline void add_row_products(float (&result)[2][4], const LeftRows<kDim>& left, const T* rows,
                                        int lane) {
  // Matrices: rows 0 to 7 with columns 0, 8, then rows 8 to 15.
  const T* row = rows + (lane / 16 * 8 + lane % 8) * kRowStride<kDim> + lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kDim / kMmaTile; ++step) {
    unsigned words[4];
    load_matrices<false>(row + step * kMmaTile, words);
    multiply_add_tile<T>(result[0], left[step], {words[0], words[1]});
    multiply_add_tile<T>(result[1], left[step], {words[2], words[3]});
  }
}

/// sums += weights rows: 16 x 16 weights, packed, with 16 rows of kDim elements in shared memory.
template <int kDim, class T>
__device__ inline void add_weighted_rows(float (&sums)[kDim / 8][4], const unsigned (&weights)[4],
                                         const T* rows, int lane) {
  // Matrices: columns 0 to 7 of rows 0, 8, then columns 8 to 15.
  const T* row = rows + lane % 16 * kRowStride<kDim> + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < kDim / kMmaTile; ++step) {
    unsigned words[4];
    load_matrices<true>(row + step * kMmaTile, words);
    multiply_add_tile<T>(sums[2 * step], weights, {words[0], words[1]});
    multiply_add_tile<T>(sums[2 * step + 1], weights, {words[2], words[3]});
  }
}

/// A tile of results as the left operand of the next product.
template <class T>
__device__ inline void pack_left(const float (&tile)[2][4], unsigned (&left)[4]) {
  left[0] = pack_pair<T>(tile[0][0], tile[0][1]);
  left[1] = pack_pair<T>(tile[0][2], tile[0][3]);
  left[2] = pack_pair<T>(tile[1][0], tile[1][1]);
  left[3] = pack_pair<T>(tile[1][2], tile[1][3]);
}

/// Copies a head of all slots to rows in shared memory, zeros where there is no position. For all threads of
/// a block, which synchronize afterwards.
template <int kDim, class T>
__device__ inline void stage_head(T* rows, const AttentionParams& p, const AttentionWindow& window,
                                  const void* data, int parts, int part) {
  constexpr int kVectors = kDim / kVectorWidth<T>;
  const int count = padded_slots(p.window_size) * kVectors;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    const int slot = i / kVectors;
    const int column = i % kVectors * kVectorWidth<T>;
    const std::int32_t position = slot < p.window_size ? p.positions[window.first_slot + slot] : -1;
    uint4 raw = make_uint4(0, 0, 0, 0);
    if (position >= 0)
      raw = *reinterpret_cast<const uint4*>(static_cast<const T*>(data) +
                                            window.element(p, position, parts, part) + column);
    *reinterpret_cast<uint4*>(rows + slot * kRowStride<kDim> + column) = raw;
  }
}

/// sum of a * b over a head.
template <int kDim, class T>
__device__ inline float dot_rows(const T* a, const T* b) {
  using Vector = Pack<T, kVectorWidth<T>>;
  float sum = 0.0F;
#pragma unroll
  for (int column = 0; column < kDim; column += kVectorWidth<T>) {
    float values[kVectorWidth<T>], others[kVectorWidth<T>];
    Vector::unpack(Vector::load(a + column), values);
    Vector::unpack(Vector::load(b + column), others);
#pragma unroll
    for (int v = 0; v < kVectorWidth<T>; ++v) sum += values[v] * others[v];
  }
  return sum;
}

/// What a score needs of a query or key besides its vector.
struct __align__(8) SlotInfo {
  float inverse_norm;
  std::int16_t place;
  std::int16_t region;
};

template <int kDim, class T>
__device__ inline SlotInfo slot_info(const AttentionParams& p, const AttentionWindow& window, int slot,
                                     const T* row) {
  if (slot >= p.window_size) return {0.0F, 0, kPaddedRegion};
  return {inverse_norm(p, dot_rows<kDim>(row, row)), static_cast<std::int16_t>(offset_place(p, slot)),
          static_cast<std::int16_t>(p.regions[window.first_slot + slot])};
}

/// A score from its product; `bias` points to the entry of places that are equal.
__device__ inline float finish_score(float product, float factor, const SlotInfo& query, const SlotInfo& key,
                                     const float* bias) {
  const float penalty = query.region == key.region ? 0.0F : static_cast<float>(kRegionPenalty);
  return product * factor * query.inverse_norm * key.inverse_norm + bias[query.place - key.place] + penalty;
}

/// Sum over the four lanes of a row.
__device__ inline float row_sum(float value) { return lanes_sum<4>(value); }

}  // namespace flex
