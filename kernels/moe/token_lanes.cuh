#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "kernels/cuda_launch.cuh"

/// Rows of fp32 by expert, a few lanes of a warp to a token: kLanes neighbouring lanes, each with kWidth
/// neighbouring experts at a time. Included by .cu files only.
namespace flex {

/// kWidth neighbours of a row; four of them in one access.
template <int kWidth>
__device__ inline void load_experts(const float* from, float (&values)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 4);
  if constexpr (kWidth == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    values[0] = four.x;
    values[1] = four.y;
    values[2] = four.z;
    values[3] = four.w;
  } else {
    values[0] = *from;
  }
}
template <int kWidth>
__device__ inline void store_experts(float* to, const float (&values)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == 4);
  if constexpr (kWidth == 4)
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
  else
    *to = values[0];
}

/// Calls function.operator()<kLanes, kWidth>() with as many lanes as a token's experts occupy, at most a
/// warp. `rows` are the addresses of the arrays, (T, num_experts) each.
template <class Function>
decltype(auto) dispatch_token_lanes(std::int64_t num_experts, std::initializer_list<const void*> rows,
                                    Function&& function) {
  constexpr int kQuad = 4;
  if (num_experts % kQuad == 0 && aligned_to(rows, kVectorBytes)) {
    if (num_experts <= 4 * kQuad) return function.template operator()<4, kQuad>();
    if (num_experts <= 8 * kQuad) return function.template operator()<8, kQuad>();
    if (num_experts <= 16 * kQuad) return function.template operator()<16, kQuad>();
    return function.template operator()<kWarpSize, kQuad>();
  }
  if (num_experts <= 8) return function.template operator()<8, 1>();
  return function.template operator()<kWarpSize, 1>();
}

}  // namespace flex
