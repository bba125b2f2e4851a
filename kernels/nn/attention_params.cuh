#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cosine.h"
#include "kernels/cuda_launch.cuh"
#include "kernels/nn/position_bias.h"
#include "kernels/nn/window_attention.h"

/// What the kernels of window attention share. Included by .cu files only.
namespace flex {

/// One call, as its kernels see it; pointers to what a pass does not have are null.
struct AttentionParams {
  const void* qkv;
  const void* out;         // backward: from the forward pass
  const void* dout;        // backward
  const float* scale;      // (heads), cosine only
  const float* bias;       // (heads, num_offsets)
  const float* logsumexp;  // backward: (windows, heads, N)
  const std::int32_t* positions;
  const std::uint8_t* regions;
  std::int64_t num_windows;  // of all images
  std::int64_t windows_of_image;
  std::int64_t map_area;
  std::int32_t num_heads;
  std::int32_t head_dim;
  std::int32_t window_size;  // N
  std::int32_t window_rows;
  std::int32_t window_columns;
  std::int32_t num_offsets;

  [[nodiscard]] __device__ std::int64_t channels() const {
    return static_cast<std::int64_t>(num_heads) * head_dim;
  }
};

template <class Args>
AttentionParams attention_params(const Args& args) {
  const WindowLayout& layout = args.map->layout();
  const std::int64_t images = args.qkv.size(0) / layout.map.area();
  return {.qkv = args.qkv.data,
          .out = args.out.data,
          .dout = nullptr,
          .scale = args.scale.template as<float>(),
          .bias = args.bias_table.template as<float>(),
          .logsumexp = args.logsumexp.template as<float>(),
          .positions = args.map->positions().template as<std::int32_t>(),
          .regions = args.map->regions().template as<std::uint8_t>(),
          .num_windows = images * layout.num_windows().area(),
          .windows_of_image = layout.num_windows().area(),
          .map_area = layout.map.area(),
          .num_heads = static_cast<std::int32_t>(args.num_heads),
          .head_dim = static_cast<std::int32_t>(args.qkv.size(1) / (3 * args.num_heads)),
          .window_size = static_cast<std::int32_t>(layout.window_size()),
          .window_rows = static_cast<std::int32_t>(layout.window.rows),
          .window_columns = static_cast<std::int32_t>(layout.window.columns),
          .num_offsets = static_cast<std::int32_t>(num_offsets(layout.window))};
}

struct AttentionSums;

/// The same passes on the tensor cores, for 16-bit types. False, with nothing queued, for others, and for
/// head sizes and addresses that they do not take.
bool attend_mma(const AttentionParams& p, const WindowAttentionArgs& args, cudaStream_t stream);
bool attend_mma_backward(const AttentionParams& p, const WindowAttentionBackwardArgs& args,
                         const AttentionSums& sums, cudaStream_t stream);

/// Calls function.operator()<kDim>() with the smallest size of the kernels that holds a head.
template <class Function>
void dispatch_head_dim(std::int64_t head_dim, Function&& function) {
  if (head_dim <= 8) return function.template operator()<8>();
  if (head_dim <= 16) return function.template operator()<16>();
  if (head_dim <= 32) return function.template operator()<32>();
  if (head_dim <= 64) return function.template operator()<64>();
  return function.template operator()<128>();
}

/// 16-bit results do not show the difference.
template <class T>
__device__ inline float attention_exp(float v) {
  if constexpr (sizeof(T) == 4) {
    return expf(v);
  } else {
    return __expf(v);
  }
}

/// Part of a score that a head has for all pairs: the cosine's factor, or 1 / sqrt(d).
__device__ inline float score_factor(const AttentionParams& p, int head) {
  if (p.scale == nullptr) return 1.0F / sqrtf(static_cast<float>(p.head_dim));
  const bool is_clamped = p.scale[head] > logf(static_cast<float>(kMaxCosineScale));  // NaN is not
  return is_clamped ? static_cast<float>(kMaxCosineScale) : expf(p.scale[head]);
}

/// What a product with this vector is multiplied by: 1 over its norm with the cosine.
__device__ inline float inverse_norm(const AttentionParams& p, float squares) {
  return p.scale == nullptr ? 1.0F : 1.0F / fmaxf(sqrtf(squares), static_cast<float>(kCosineNormFloor));
}

/// The offset of a pair is the difference of its slots' places, plus offset_center.
__device__ inline int offset_place(const AttentionParams& p, int slot) {
  return slot / p.window_columns * (2 * p.window_columns - 1) + slot % p.window_columns;
}
__device__ inline int offset_center(const AttentionParams& p) {
  return (p.window_rows - 1) * (2 * p.window_columns - 1) + p.window_columns - 1;
}

enum AttentionPart : int { kQueryPart, kKeyPart, kValuePart };

/// One head of one window.
struct AttentionWindow {
  std::int64_t window;  // among all images'
  int head;
  std::int64_t first_slot;  // in the map's lists
  std::int64_t first_row;   // of the image

  __device__ AttentionWindow(const AttentionParams& p, std::int64_t window_in, int head_in)
      : window(window_in),
        head(head_in),
        first_slot(window_in % p.windows_of_image * p.window_size),
        first_row(window_in / p.windows_of_image * p.map_area) {}

  /// Offset of this head's first element of a position in rows of [parts][heads][d].
  [[nodiscard]] __device__ std::int64_t element(const AttentionParams& p, std::int32_t position, int parts,
                                                int part) const {
    return ((first_row + position) * parts + part) * p.channels() +
           static_cast<std::int64_t>(head) * p.head_dim;
  }
  [[nodiscard]] __device__ std::int64_t logsumexp_element(const AttentionParams& p, int slot) const {
    return (window * p.num_heads + head) * p.window_size + slot;
  }
};

/// kDim elements of a head, zeros past its end.
template <int kDim, class T>
__device__ inline void load_head(const T* from, int head_dim, float (&values)[kDim]) {
#pragma unroll
  for (int c = 0; c < kDim; ++c) values[c] = c < head_dim ? to_float(from[c]) : 0.0F;
}
template <int kDim, class T>
__device__ inline void store_head(T* to, int head_dim, const float (&values)[kDim], float factor = 1.0F) {
#pragma unroll
  for (int c = 0; c < kDim; ++c) {
    if (c < head_dim) to[c] = from_float<T>(values[c] * factor);
  }
}
template <int kDim>
__device__ inline float dot(const float (&a)[kDim], const float* b) {
  float sum = 0.0F;
#pragma unroll
  for (int c = 0; c < kDim; ++c) sum += a[c] * b[c];
  return sum;
}

/// Gradient of v by way of v / |v|, in place. Where the norm's floor binds, the divisor is a constant.
template <int kDim>
__device__ inline void normalize_backward(const float (&v)[kDim], float inverse, float (&gradient)[kDim]) {
  const bool is_floored = inverse >= 1.0F / static_cast<float>(kCosineNormFloor);
  const float along = is_floored ? 0.0F : dot(v, gradient) * inverse * inverse;
#pragma unroll
  for (int c = 0; c < kDim; ++c) gradient[c] = (gradient[c] - along * v[c]) * inverse;
}

}  // namespace flex
