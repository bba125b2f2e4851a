#pragma once

#include "kernels/cuda_launch.cuh"
#include "kernels/nn/trained_tensor_entry.h"
#include "kernels/nn/trained_tensors.h"

/// Elements of a TrainedTensors chunk, four neighbours a thread. Included by .cu files only.
namespace flex {

inline constexpr int kFour = 4;

/// Up to four neighbours that begin at a multiple of four; `whole` if all are there and aligned.
__device__ inline void load_four(const float* from, int count, bool whole, float (&values)[kFour]) {
  if (whole) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[0] = four.x;
    values[1] = four.y;
    values[2] = four.z;
    values[3] = four.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) values[i] = i < count ? from[i] : 0.0F;
}
__device__ inline void store_four(float* to, int count, bool whole, const float (&values)[kFour]) {
  if (whole) {
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) {
    if (i < count) to[i] = values[i];
  }
}

/// The same for 16-bit types.
template <class T>
__device__ inline void load_four(const T* from, int count, bool whole, float (&values)[kFour]) {
  T narrow[kFour] = {};
  if (whole) {
    const uint2 raw = *reinterpret_cast<const uint2*>(from);
    memcpy(narrow, &raw, sizeof(raw));
  } else {
    for (int i = 0; i < count; ++i) narrow[i] = from[i];
  }
#pragma unroll
  for (int i = 0; i < kFour; ++i) values[i] = to_float(narrow[i]);
}
template <class T>
__device__ inline void store_four(T* to, int count, bool whole, const float (&values)[kFour]) {
  T narrow[kFour];
#pragma unroll
  for (int i = 0; i < kFour; ++i) narrow[i] = from_float<T>(values[i]);
  if (whole) {
    uint2 raw;
    memcpy(&raw, narrow, sizeof(raw));
    *reinterpret_cast<uint2*>(to) = raw;
  } else {
    for (int i = 0; i < count; ++i) to[i] = narrow[i];
  }
}

/// A tensor's gradient, of its own type.
__device__ inline void load_gradient(const TrainedTensorEntry& tensor, std::int64_t index, int count,
                                     bool whole, float (&values)[kFour]) {
  switch (tensor.gradient_dtype) {
    case DType::kF16:
      return load_four(static_cast<const __half*>(tensor.gradient) + index, count, whole, values);
    case DType::kBF16:
      return load_four(static_cast<const __nv_bfloat16*>(tensor.gradient) + index, count, whole, values);
    default:
      return load_four(static_cast<const float*>(tensor.gradient) + index, count, whole, values);
  }
}

__device__ inline bool is_vector_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % kVectorBytes == 0;
}

/// Elements of the chunk that its tensor has.
__device__ inline int chunk_size(const TrainedTensorEntry& tensor, const TrainedTensorChunk& chunk) {
  const std::int64_t rest = tensor.num_elements - chunk.index * TrainedTensors::kChunk;
  return static_cast<int>(min(rest, TrainedTensors::kChunk));
}

}  // namespace flex
