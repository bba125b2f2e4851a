#include "kernels/nn/attention_mma_backward.cuh"
#include "kernels/nn/attention_sums.h"
#include "kernels/nn/block_sum.cuh"

namespace flex {
namespace {

// The weight of a key, 0 in the padding.
__device__ float weight_of(float product, float factor, const QueryInfo& query, const SlotInfo& key,
                           const float* bias) {
  if (key.region == kPaddedRegion) return 0.0F;
  return __expf(finish_score(product, factor, query.slot, key, bias) - query.logsumexp);
}

// 1 / |v| as it multiplies gradients that are packed into T: what of fp16 is shorter than 2^-14 counts as so
// long, since the product would not fit.
template <class T>
__device__ float packed_inverse(float inverse) {
  return std::is_same_v<T, __half> ? fminf(inverse, 16384.0F) : inverse;
}

// Writes 16 rows of gradients that are by v / |v| with the cosine, v being the rows in shared memory. Returns
// this lane's part of the sum of <v / |v|, gradient>.
template <class T, int kDim, class InverseOf>
__device__ float write_gradients(float (&sums)[kDim / 8][4], float factor, const T* rows, int first_row,
                                 const AttentionParams& p, const AttentionWindow& window, int part,
                                 const InverseOf& inverse_of, T* dqkv) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float total = 0.0F;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int slot = first_row + lane / 4 + 8 * half;
    const T* row = rows + slot * kRowStride<kDim> + lane % 4 * 2;
    float along = 0.0F;
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile) {
      const float2 v = unpack_pair<T>(*reinterpret_cast<const unsigned*>(row + tile * 8));
      sums[tile][2 * half] *= factor;
      sums[tile][2 * half + 1] *= factor;
      along += v.x * sums[tile][2 * half] + v.y * sums[tile][2 * half + 1];
    }
    along = row_sum(along);
    const std::int32_t position = slot < p.window_size ? p.positions[window.first_slot + slot] : -1;
    if (position < 0) continue;
    const bool cosine = p.scale != nullptr && part != kValuePart;
    const float inverse = cosine ? inverse_of(slot) : 1.0F;
    if (lane % 4 == 0) total += along * inverse;
    const bool is_floored = inverse >= 1.0F / static_cast<float>(kCosineNormFloor);
    const float removed = cosine && !is_floored ? along * inverse * inverse : 0.0F;
    T* to = dqkv + window.element(p, position, 3, part) + lane % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile) {
      const float2 v = unpack_pair<T>(*reinterpret_cast<const unsigned*>(row + tile * 8));
      *reinterpret_cast<unsigned*>(to + tile * 8) =
          pack_pair<T>((sums[tile][2 * half] - removed * v.x) * inverse,
                       (sums[tile][2 * half + 1] - removed * v.y) * inverse);
    }
  }
  return total;
}

// Gradients of a warp's 16 queries. Returns this lane's part of the scale's.
template <class T, int kDim>
__device__ float query_gradients(const BackwardShared<T, kDim>& shared, const AttentionParams& p,
                                 const AttentionWindow& window, float factor, T* dqkv) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaTile;
  const float* bias = shared.bias + offset_center(p);
  const QueryInfo queries[2] = {shared.query_infos[first_row + lane / 4],
                                shared.query_infos[first_row + lane / 4 + 8]};
  LeftRows<kDim> query, dout;
  load_left<kDim>(shared.queries + first_row * kRowStride<kDim>, lane, query);
  load_left<kDim>(shared.douts + first_row * kRowStride<kDim>, lane, dout);
  float sums[kDim / 8][4] = {};
  for (int begin = 0; begin < padded_slots(p.window_size); begin += kMmaTile) {
    const T* keys = shared.keys + begin * kRowStride<kDim>;
    float scores[2][4] = {};
    float dweights[2][4] = {};
    add_row_products<kDim>(scores, query, keys, lane);
    add_row_products<kDim>(dweights, dout, shared.values + begin * kRowStride<kDim>, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const SlotInfo key = shared.key_infos[begin + i / 4 * 8 + lane % 4 * 2 + i % 2];
      const QueryInfo& own = queries[i / 2 % 2];
      float& score = scores[i / 4][i % 4];
      const float dscore = weight_of(score, factor, own, key, bias) * (dweights[i / 4][i % 4] - own.along);
      score = dscore * packed_inverse<T>(key.inverse_norm);
    }
    unsigned left[4];
    pack_left<T>(scores, left);
    add_weighted_rows<kDim>(sums, left, keys, lane);
  }
  const auto inverse_of = [&](int slot) { return shared.query_infos[slot].slot.inverse_norm; };
  return write_gradients<T, kDim>(sums, factor, shared.queries, first_row, p, window, kQueryPart, inverse_of,
                                  dqkv);
}

// What a block has summed so far of the scores' gradients of a tile, (keys, queries), and this window's.
struct ScoreSums {
  float* sums;
  int window_size;
  bool is_first;

  __device__ bool holds(int key, int query) const { return key < window_size && query < window_size; }
  __device__ float load(int key, int query) const {
    return is_first || !holds(key, query) ? 0.0F : sums[key * window_size + query];
  }
  __device__ void store(int key, int query, float sum) const {
    if (holds(key, query)) sums[key * window_size + query] = sum;
  }
};

// Gradients of a warp's 16 keys and values, and of all scores of these keys.
template <class T, int kDim>
__device__ void key_gradients(const BackwardShared<T, kDim>& shared, const AttentionParams& p,
                              const AttentionWindow& window, float factor, const ScoreSums& score_sums,
                              T* dqkv) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaTile;
  const float* bias = shared.bias + offset_center(p);
  const SlotInfo own[2] = {shared.key_infos[first_row + lane / 4],
                           shared.key_infos[first_row + lane / 4 + 8]};
  LeftRows<kDim> key, value;
  load_left<kDim>(shared.keys + first_row * kRowStride<kDim>, lane, key);
  load_left<kDim>(shared.values + first_row * kRowStride<kDim>, lane, value);
  float dkeys[kDim / 8][4] = {};
  float dvalues[kDim / 8][4] = {};
  for (int begin = 0; begin < padded_slots(p.window_size); begin += kMmaTile) {
    const T* queries = shared.queries + begin * kRowStride<kDim>;
    const T* douts = shared.douts + begin * kRowStride<kDim>;
    float before[8];  // asked for before the products, which cover the wait
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      before[i] =
          score_sums.load(first_row + lane / 4 + i / 2 % 2 * 8, begin + i / 4 * 8 + lane % 4 * 2 + i % 2);
    }
    float weights[2][4] = {};
    float dscores[2][4] = {};
    add_row_products<kDim>(weights, key, queries, lane);
    add_row_products<kDim>(dscores, value, douts, lane);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int column = begin + i / 4 * 8 + lane % 4 * 2 + i % 2;
      const QueryInfo query = shared.query_infos[column];
      float& weight = weights[i / 4][i % 4];
      float& dscore = dscores[i / 4][i % 4];
      weight = weight_of(weight, factor, query, own[i / 2 % 2], bias);
      dscore = weight * (dscore - query.along);
      score_sums.store(first_row + lane / 4 + i / 2 % 2 * 8, column, before[i] + dscore);
      dscore *= packed_inverse<T>(query.slot.inverse_norm);
    }
    unsigned left[4];
    pack_left<T>(weights, left);
    add_weighted_rows<kDim>(dvalues, left, douts, lane);
    pack_left<T>(dscores, left);
    add_weighted_rows<kDim>(dkeys, left, queries, lane);
  }
  const auto inverse_of = [&](int slot) { return shared.key_infos[slot].inverse_norm; };
  write_gradients<T, kDim>(dkeys, factor, shared.keys, first_row, p, window, kKeyPart, inverse_of, dqkv);
  write_gradients<T, kDim>(dvalues, 1.0F, shared.values, first_row, p, window, kValuePart, inverse_of, dqkv);
}

// A block has one head of some windows, a warp 16 queries and 16 keys of each.
template <class T, int kDim, int kThreads, int kBlocks>
__global__ void __launch_bounds__(kThreads, kBlocks)
    attend_mma_backward_kernel(const __grid_constant__ AttentionParams p, T* dqkv, float* score_sums,
                               float* scale_sums) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ float warp_sums[kThreads / kWarpSize];
  const BackwardShared<T, kDim> shared(memory, padded_slots(p.window_size));
  const int head = static_cast<int>(blockIdx.y);
  const std::int64_t part = static_cast<std::int64_t>(blockIdx.x) * p.num_heads + head;
  for (int i = static_cast<int>(threadIdx.x); i < p.num_offsets; i += static_cast<int>(blockDim.x)) {
    shared.bias[i] = p.bias[head * p.num_offsets + i];
  }
  const float factor = score_factor(p, head);
  ScoreSums sums = {score_sums + part * p.window_size * p.window_size, p.window_size, true};
  float dscale = 0.0F;
  for (std::int64_t at = blockIdx.x; at < p.num_windows; at += gridDim.x) {
    const AttentionWindow window(p, at, head);
    stage_window(shared, p, window);
    dscale += query_gradients(shared, p, window, factor, dqkv);
    key_gradients(shared, p, window, factor, sums, dqkv);
    sums.is_first = false;
  }
  if (p.scale == nullptr) return;
  dscale = block_sum(dscale, warp_sums);
  if (threadIdx.x == 0) scale_sums[part] = dscale;
}

template <class T, int kDim>
void launch(const AttentionParams& p, const AttentionSums& sums, T* dqkv, cudaStream_t stream) {
  const unsigned threads = mma_threads(p);
  auto* kernel = threads <= kSmallMmaThreads ? attend_mma_backward_kernel<T, kDim, kSmallMmaThreads, 2>
                                             : attend_mma_backward_kernel<T, kDim, kMostMmaThreads, 1>;
  const std::size_t shared_bytes = backward_shared_bytes<T, kDim>(p);
  allow_shared_bytes(kernel, shared_bytes);
  const dim3 grid(grid_size(sums.parts), static_cast<unsigned>(p.num_heads));
  kernel<<<grid, threads, shared_bytes, stream>>>(p, dqkv, sums.scores, sums.scales);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

bool attend_mma_backward(const AttentionParams& p, const WindowAttentionBackwardArgs& args,
                         const AttentionSums& sums, cudaStream_t stream) {
  if (!aligned_to({args.qkv.data, args.out.data, args.dout.data, args.dqkv.data}, kVectorBytes)) return false;
  return dispatch_mma(args.qkv.dtype, p.head_dim,
                      [&]<class T, int kDim>() { launch<T, kDim>(p, sums, args.dqkv.as<T>(), stream); });
}

}  // namespace flex
