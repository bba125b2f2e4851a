#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "base/host_device.h"
#include "kernels/cuda_check.h"
#include "kernels/dtype.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

/// What launchers and kernels share. Included by .cu files only.
namespace flex {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xFFFFFFFFU;
/// The widest access of one thread.
inline constexpr int kVectorBytes = 16;

/// The stream's cudaStream_t, its device made the calling thread's current one, as a launch needs it.
inline cudaStream_t launch_stream(const Stream& stream) {
  FLEX_CUDA_CHECK(cudaSetDevice(stream.device().index));
  return static_cast<cudaStream_t>(stream.native());
}

template <class T>
[[nodiscard]] FLEX_HOST_DEVICE constexpr T ceil_div(T value, T divisor) {
  return (value + divisor - 1) / divisor;
}

/// Extent x of a grid. @throws InputError beyond what CUDA launches.
[[nodiscard]] inline unsigned grid_size(std::int64_t blocks) {
  constexpr std::int64_t kMaxBlocks = 2147483647;
  if (blocks < 1 || blocks > kMaxBlocks) {
    throw InputError("a kernel of " + std::to_string(blocks) + " blocks: CUDA launches 1 to 2147483647");
  }
  return static_cast<unsigned>(blocks);
}

/// Calls function.operator()<T>() with the device type of `dtype`, which the door has checked.
template <class Function>
void dispatch_dtype(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::kF16:
      return function.template operator()<__half>();
    case DType::kBF16:
      return function.template operator()<__nv_bfloat16>();
    default:
      return function.template operator()<float>();
  }
}

/// True if every address is a multiple of `bytes`.
[[nodiscard]] inline bool aligned_to(std::initializer_list<const void*> addresses, std::uintptr_t bytes) {
  for (const void* address : addresses) {
    if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) return false;
  }
  return true;
}

/// Lets a kernel use more dynamic shared memory than CUDA grants unasked.
template <class Kernel>
void allow_shared_bytes(Kernel* kernel, std::size_t bytes) {
  constexpr std::size_t kUnasked = 48 * 1024;
  if (bytes <= kUnasked) return;
  FLEX_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

// ---- Numbers --------------------------------------------------------------------------------------------

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
__device__ inline T from_float(float value) {
  if constexpr (std::is_same_v<T, __half>)
    return __float2half_rn(value);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16_rn(value);
  else
    return value;
}

/// kWidth neighbours of a row that one access moves: 16 bytes, or a single element where rows are not
/// aligned.
template <class T, int kWidth>
struct Pack {
  static_assert(kWidth == 1 || kWidth * sizeof(T) == kVectorBytes);
  using Raw = std::conditional_t<kWidth == 1, T, uint4>;

  __device__ static Raw load(const T* from) { return *reinterpret_cast<const Raw*>(from); }
  __device__ static void store(T* to, const Raw& raw) { *reinterpret_cast<Raw*>(to) = raw; }
  __device__ static Raw zero() {
    if constexpr (kWidth == 1)
      return from_float<T>(0.0F);
    else
      return make_uint4(0, 0, 0, 0);
  }

  __device__ static void unpack(const Raw& raw, float (&values)[kWidth]) {
    if constexpr (kWidth == 1) {
      values[0] = to_float(raw);
    } else {
      const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        if constexpr (sizeof(T) == 4) {
          values[word] = __uint_as_float(words[word]);
        } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
          // A bf16 is the upper half of the fp32 of the same value.
          values[2 * word] = __uint_as_float(words[word] << 16);
          values[2 * word + 1] = __uint_as_float(words[word] & 0xFFFF0000U);
        } else {
          __half2 halves;
          memcpy(&halves, &words[word], sizeof(halves));
          const float2 pair = __half22float2(halves);
          values[2 * word] = pair.x;
          values[2 * word + 1] = pair.y;
        }
      }
    }
  }

  __device__ static Raw pack(const float (&values)[kWidth]) {
    if constexpr (kWidth == 1) {
      return from_float<T>(values[0]);
    } else {
      unsigned words[4];
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        if constexpr (sizeof(T) == 4) {
          words[word] = __float_as_uint(values[word]);
        } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
          const __nv_bfloat162 pair = __floats2bfloat162_rn(values[2 * word], values[2 * word + 1]);
          memcpy(&words[word], &pair, sizeof(pair));
        } else {
          const __half2 pair = __floats2half2_rn(values[2 * word], values[2 * word + 1]);
          memcpy(&words[word], &pair, sizeof(pair));
        }
      }
      return make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
};

/// Elements of T in one 16-byte access.
template <class T>
inline constexpr int kVectorWidth = kVectorBytes / static_cast<int>(sizeof(T));

// ---- Reductions in a fixed order ------------------------------------------------------------------------

/// Sum over the `kLanes` neighbouring lanes that share a token; every lane gets it.
template <int kLanes = kWarpSize, class T>
__device__ inline T lanes_sum(T value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

/// Maximum over the `kLanes` neighbouring lanes; every lane gets it. NaN is passed over.
template <int kLanes = kWarpSize>
__device__ inline float lanes_max(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

template <int kLanes = kWarpSize>
__device__ inline double lanes_max(double value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = fmax(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

}  // namespace flex
