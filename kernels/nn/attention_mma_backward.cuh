#pragma once

#include "kernels/nn/attention_mma.cuh"

/// A window as the backward pass on the tensor cores has it in shared memory. Included by .cu files only.
namespace flex {

/// What a score's gradient needs of a query besides its vectors.
struct __align__(16) QueryInfo {
  SlotInfo slot;
  float logsumexp;  ///< infinite where there is no query: no weights
  float along;      ///< sum over keys of weight * dweight
};

/// A window in shared memory: four rows of each slot, and what belongs to them.
template <class T, int kDim>
struct BackwardShared {
  static constexpr int kStride = kRowStride<kDim>;
  T* queries;
  T* keys;
  T* values;
  T* douts;
  QueryInfo* query_infos;
  SlotInfo* key_infos;
  float* bias;

  __device__ BackwardShared(unsigned char* memory, int padded)
      : queries(reinterpret_cast<T*>(memory)),
        keys(queries + padded * kStride),
        values(keys + padded * kStride),
        douts(values + padded * kStride),
        query_infos(reinterpret_cast<QueryInfo*>(douts + padded * kStride)),
        key_infos(reinterpret_cast<SlotInfo*>(query_infos + padded)),
        bias(reinterpret_cast<float*>(key_infos + padded)) {}
};

template <class T, int kDim>
std::size_t backward_shared_bytes(const AttentionParams& p) {
  const auto padded = static_cast<std::size_t>(padded_slots(p.window_size));
  return padded * (4 * kRowStride<kDim> * sizeof(T) + sizeof(QueryInfo) + sizeof(SlotInfo)) +
         static_cast<std::size_t>(p.num_offsets) * sizeof(float);
}

/// Fills it. For all threads of a block; synchronizes it before and after.
template <class T, int kDim>
__device__ inline void stage_window(const BackwardShared<T, kDim>& shared, const AttentionParams& p,
                                    const AttentionWindow& window) {
  __syncthreads();  // the last window has been read
  stage_head<kDim>(shared.queries, p, window, p.qkv, 3, kQueryPart);
  stage_head<kDim>(shared.keys, p, window, p.qkv, 3, kKeyPart);
  stage_head<kDim>(shared.values, p, window, p.qkv, 3, kValuePart);
  stage_head<kDim>(shared.douts, p, window, p.dout, 1, 0);
  __syncthreads();
  const int padded = padded_slots(p.window_size);
  for (int slot = static_cast<int>(threadIdx.x); slot < padded; slot += static_cast<int>(blockDim.x)) {
    const int row = slot * kRowStride<kDim>;
    shared.key_infos[slot] = slot_info<kDim>(p, window, slot, shared.keys + row);
    QueryInfo query = {slot_info<kDim>(p, window, slot, shared.queries + row), INFINITY, 0.0F};
    if (query.slot.region != kPaddedRegion) {
      const std::int32_t position = p.positions[window.first_slot + slot];
      query.logsumexp = p.logsumexp[window.logsumexp_element(p, slot)];
      query.along = dot_rows<kDim>(shared.douts + row,
                                   static_cast<const T*>(p.out) + window.element(p, position, 1, 0));
    }
    shared.query_infos[slot] = query;
  }
  __syncthreads();
}

}  // namespace flex
