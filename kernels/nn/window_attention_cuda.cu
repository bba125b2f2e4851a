#include "kernels/nn/attention_tile.cuh"

namespace flex {
namespace {

// A block has one head of one window, a thread one query. Weights are summed as they come, in units of the
// largest score so far.
template <class T, int kDim>
__global__ void __launch_bounds__(kMaxWindowSize)
    attend_kernel(const __grid_constant__ AttentionParams p, T* out, float* logsumexp) {
  extern __shared__ float bias[];
  __shared__ AttentionTile<kDim> tile;
  const AttentionWindow window(p, blockIdx.x, static_cast<int>(blockIdx.y));
  const OwnSlot own(p, window, static_cast<int>(threadIdx.x));
  const T* qkv = static_cast<const T*>(p.qkv);
  for (int i = static_cast<int>(threadIdx.x); i < p.num_offsets; i += static_cast<int>(blockDim.x)) {
    bias[i] = p.bias[window.head * p.num_offsets + i];
  }
  float query[kDim] = {};
  if (own.inside) load_head(qkv + window.element(p, own.position, 3, kQueryPart), p.head_dim, query);
  const float factor = score_factor(p, window.head) * inverse_norm(p, dot(query, query));
  const int center = offset_center(p) + own.place;

  float sums[kDim] = {};
  float sum = 0.0F;
  float largest = -INFINITY;
  for (int begin = 0; begin < p.window_size; begin += kTile) {
    fill_tile(tile, p, window, begin, TileSource<T>{qkv, 3, kKeyPart}, TileSource<T>{qkv, 3, kValuePart});
    if (!own.inside) continue;
    for (int group = 0; group < kTile; group += kGroup) {
      float scores[kGroup];
      float new_largest = largest;
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const int key = group + j;
        const float penalty = tile.regions[key] == own.region ? 0.0F : static_cast<float>(kRegionPenalty);
        scores[j] = tile.inside[key] ? factor * tile.inverse_norms[key] * dot(query, tile.first[key]) +
                                           bias[center - tile.places[key]] + penalty
                                     : -INFINITY;
        new_largest = fmaxf(new_largest, scores[j]);
      }
      if (new_largest == -INFINITY) continue;  // no key so far
      const float shrink = attention_exp<T>(largest - new_largest);
      largest = new_largest;
      sum *= shrink;
#pragma unroll
      for (int c = 0; c < kDim; ++c) sums[c] *= shrink;
#pragma unroll
      for (int j = 0; j < kGroup; ++j) {
        const float weight = attention_exp<T>(scores[j] - largest);
        sum += weight;
#pragma unroll
        for (int c = 0; c < kDim; ++c) sums[c] += weight * tile.second[group + j][c];
      }
    }
  }
  if (own.inside) store_head(out + window.element(p, own.position, 1, 0), p.head_dim, sums, 1.0F / sum);
  if (logsumexp != nullptr && own.slot < p.window_size)
    logsumexp[window.logsumexp_element(p, own.slot)] = own.inside ? largest + logf(sum) : 0.0F;
}

}  // namespace

void window_attention_cuda(const WindowAttentionArgs& args, Stream& stream) {
  const AttentionParams p = attention_params(args);
  if (p.num_windows == 0) return;
  cudaStream_t native = launch_stream(stream);
  if (attend_mma(p, args, native)) return;
  const dim3 grid(grid_size(p.num_windows), static_cast<unsigned>(p.num_heads));
  const std::size_t shared_bytes = static_cast<std::size_t>(p.num_offsets) * sizeof(float);
  dispatch_dtype(args.qkv.dtype, [&]<class T>() {
    dispatch_head_dim(p.head_dim, [&]<int kDim>() {
      attend_kernel<T, kDim><<<grid, threads_of_window(p.window_size), shared_bytes, native>>>(
          p, args.out.as<T>(), args.logsumexp.as<float>());
      FLEX_CUDA_CHECK(cudaGetLastError());
    });
  });
}

}  // namespace flex
