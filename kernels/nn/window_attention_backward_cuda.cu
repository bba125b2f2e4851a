#include <algorithm>

#include "kernels/nn/attention_sums.h"
#include "kernels/nn/attention_tile.cuh"
#include "kernels/nn/block_sum.cuh"

namespace flex {
namespace {

// One query a thread: its gradient, and the gradients of its scores, which are summed over the windows that
// this block has of its head. The thread alone writes its column of score_sums (N keys, N queries): no
// atomics.
template <class T, int kDim>
__global__ void __launch_bounds__(kMaxWindowSize)
    query_gradient_kernel(const __grid_constant__ AttentionParams p, T* dqkv, float* score_sums,
                          float* scale_sums) {
  extern __shared__ float bias[];
  __shared__ AttentionTile<kDim> tile;
  const int head = static_cast<int>(blockIdx.y);
  const T* qkv = static_cast<const T*>(p.qkv);
  for (int i = static_cast<int>(threadIdx.x); i < p.num_offsets; i += static_cast<int>(blockDim.x)) {
    bias[i] = p.bias[head * p.num_offsets + i];
  }
  const std::int64_t part = static_cast<std::int64_t>(blockIdx.x) * p.num_heads + head;
  float* sums = score_sums + part * p.window_size * p.window_size;
  const float factor = score_factor(p, head);
  float dscale = 0.0F;
  for (std::int64_t at = blockIdx.x; at < p.num_windows; at += gridDim.x) {
    const AttentionWindow window(p, at, head);
    const OwnSlot own(p, window, static_cast<int>(threadIdx.x));
    float query[kDim] = {};
    float dout[kDim] = {};
    float dquery[kDim] = {};
    float along = 0.0F;
    float logsumexp = 0.0F;
    if (own.inside) {
      load_head(qkv + window.element(p, own.position, 3, kQueryPart), p.head_dim, query);
      const std::int64_t row = window.element(p, own.position, 1, 0);
      float out[kDim];
      load_head(static_cast<const T*>(p.out) + row, p.head_dim, out);
      load_head(static_cast<const T*>(p.dout) + row, p.head_dim, dout);
      along = dot(dout, out);
      logsumexp = p.logsumexp[window.logsumexp_element(p, own.slot)];
    }
    const float inverse = inverse_norm(p, dot(query, query));
    const int center = offset_center(p) + own.place;
    for (int begin = 0; begin < p.window_size; begin += kTile) {
      fill_tile(tile, p, window, begin, TileSource<T>{qkv, 3, kKeyPart}, TileSource<T>{qkv, 3, kValuePart});
      if (own.slot >= p.window_size) continue;
      for (int key = 0; key < min(kTile, p.window_size - begin); ++key) {
        float dscore = 0.0F;
        if (own.inside && tile.inside[key]) {
          const float penalty = tile.regions[key] == own.region ? 0.0F : static_cast<float>(kRegionPenalty);
          const float score = factor * inverse * tile.inverse_norms[key] * dot(query, tile.first[key]) +
                              bias[center - tile.places[key]] + penalty;
          dscore = attention_exp<T>(score - logsumexp) * (dot(dout, tile.second[key]) - along);
          const float of_key = dscore * factor * tile.inverse_norms[key];
#pragma unroll
          for (int c = 0; c < kDim; ++c) dquery[c] += of_key * tile.first[key][c];
        }
        float* sum = sums + static_cast<std::int64_t>(begin + key) * p.window_size + own.slot;
        *sum = at == blockIdx.x ? dscore : *sum + dscore;
      }
    }
    if (!own.inside) continue;
    if (p.scale != nullptr) {
      dscale += dot(query, dquery) * inverse;
      normalize_backward(query, inverse, dquery);
    }
    store_head(dqkv + window.element(p, own.position, 3, kQueryPart), p.head_dim, dquery);
  }
  if (scale_sums == nullptr) return;
  __shared__ float warp_sums[kMaxWindowSize / kWarpSize];
  dscale = block_sum(dscale, warp_sums);
  if (threadIdx.x == 0) scale_sums[part] = dscale;
}

// One key a thread: its gradient and its value's.
template <class T, int kDim>
__global__ void __launch_bounds__(kMaxWindowSize)
    key_gradient_kernel(const __grid_constant__ AttentionParams p, T* dqkv) {
  extern __shared__ float bias[];
  __shared__ AttentionTile<kDim> tile;
  __shared__ float alongs[kTile];
  __shared__ float logsumexps[kTile];
  const AttentionWindow window(p, blockIdx.x, static_cast<int>(blockIdx.y));
  const OwnSlot own(p, window, static_cast<int>(threadIdx.x));
  const T* qkv = static_cast<const T*>(p.qkv);
  for (int i = static_cast<int>(threadIdx.x); i < p.num_offsets; i += static_cast<int>(blockDim.x)) {
    bias[i] = p.bias[window.head * p.num_offsets + i];
  }
  float key[kDim] = {};
  float value[kDim] = {};
  float dkey[kDim] = {};
  float dvalue[kDim] = {};
  if (own.inside) {
    load_head(qkv + window.element(p, own.position, 3, kKeyPart), p.head_dim, key);
    load_head(qkv + window.element(p, own.position, 3, kValuePart), p.head_dim, value);
  }
  const float factor = score_factor(p, window.head);
  const float inverse = inverse_norm(p, dot(key, key));
  const int center = offset_center(p) - own.place;
  for (int begin = 0; begin < p.window_size; begin += kTile) {
    fill_tile(tile, p, window, begin, TileSource<T>{qkv, 3, kQueryPart},
              TileSource<T>{static_cast<const T*>(p.dout), 1, 0});
    if (threadIdx.x < kTile && tile.inside[threadIdx.x]) {
      const int slot = begin + static_cast<int>(threadIdx.x);
      float out[kDim];
      load_head(static_cast<const T*>(p.out) + window.element(p, p.positions[window.first_slot + slot], 1, 0),
                p.head_dim, out);
      alongs[threadIdx.x] = dot(out, tile.second[threadIdx.x]);
      logsumexps[threadIdx.x] = p.logsumexp[window.logsumexp_element(p, slot)];
    }
    __syncthreads();
    if (!own.inside) continue;
    for (int query = 0; query < min(kTile, p.window_size - begin); ++query) {
      if (!tile.inside[query]) continue;
      const float penalty = tile.regions[query] == own.region ? 0.0F : static_cast<float>(kRegionPenalty);
      const float score = factor * inverse * tile.inverse_norms[query] * dot(key, tile.first[query]) +
                          bias[center + tile.places[query]] + penalty;
      const float weight = attention_exp<T>(score - logsumexps[query]);
      const float dscore = weight * (dot(value, tile.second[query]) - alongs[query]);
      const float of_query = dscore * factor * tile.inverse_norms[query];
#pragma unroll
      for (int c = 0; c < kDim; ++c) {
        dkey[c] += of_query * tile.first[query][c];
        dvalue[c] += weight * tile.second[query][c];
      }
    }
  }
  if (!own.inside) return;
  if (p.scale != nullptr) normalize_backward(key, inverse, dkey);
  store_head(dqkv + window.element(p, own.position, 3, kKeyPart), p.head_dim, dkey);
  store_head(dqkv + window.element(p, own.position, 3, kValuePart), p.head_dim, dvalue);
}

template <class T, int kDim>
void launch(const AttentionParams& p, std::int64_t parts, T* dqkv, const AttentionSums& sums,
            cudaStream_t stream) {
  const unsigned threads = threads_of_window(p.window_size);
  const auto heads = static_cast<unsigned>(p.num_heads);
  const std::size_t shared_bytes = static_cast<std::size_t>(p.num_offsets) * sizeof(float);
  query_gradient_kernel<T, kDim><<<dim3(grid_size(parts), heads), threads, shared_bytes, stream>>>(
      p, dqkv, sums.scores, p.scale == nullptr ? nullptr : sums.scales);
  FLEX_CUDA_CHECK(cudaGetLastError());
  key_gradient_kernel<T, kDim>
      <<<dim3(grid_size(p.num_windows), heads), threads, shared_bytes, stream>>>(p, dqkv);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void window_attention_backward_cuda(const WindowAttentionBackwardArgs& args, Stream& stream) {
  AttentionParams p = attention_params(args);
  p.dout = args.dout.data;
  cudaStream_t native = launch_stream(stream);
  const AttentionSums sums = attention_sums(args.map->layout(), p.num_windows, p.num_heads, args.workspace);
  if (p.num_windows > 0 && !attend_mma_backward(p, args, sums, native)) {
    dispatch_dtype(args.qkv.dtype, [&]<class T>() {
      dispatch_head_dim(p.head_dim,
                        [&]<int kDim>() { launch<T, kDim>(p, sums.parts, args.dqkv.as<T>(), sums, native); });
    });
  }
  add_attention_sums_cuda(args, sums, stream);
}

}  // namespace flex
