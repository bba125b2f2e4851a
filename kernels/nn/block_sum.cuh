#pragma once

#include "kernels/cuda_launch.cuh"

/// Reductions over the threads of a block, in a fixed order. Included by .cu files only.
namespace flex {

/// Sum over all threads, whose number is a multiple of a warp; every thread gets it. `shared` has one element
/// a warp and is free again after the next __syncthreads().
template <class T>
__device__ inline T block_sum(T value, T* shared) {
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = lanes_sum(value);
  __syncthreads();  // what `shared` held has been read
  if (threadIdx.x % kWarpSize == 0) shared[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  T sum = shared[0];
  for (int warp = 1; warp < warps; ++warp) sum += shared[warp];
  return sum;
}

/// Maximum, likewise.
__device__ inline float block_max(float value, float* shared) {
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = lanes_max(value);
  __syncthreads();
  if (threadIdx.x % kWarpSize == 0) shared[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  float most = shared[0];
  for (int warp = 1; warp < warps; ++warp) most = fmaxf(most, shared[warp]);
  return most;
}

}  // namespace flex
