#include "kernels/nn/attention_mma.cuh"

namespace flex {
namespace {

// Slots between two looks at the largest score, in tiles.
constexpr int kStepTiles = 3;

template <class T, int kDim>
struct ForwardShared {
  T* queries;
  T* keys;
  T* values;
  SlotInfo* query_infos;
  SlotInfo* key_infos;
  float* bias;

  __device__ ForwardShared(unsigned char* memory, int padded)
      : queries(reinterpret_cast<T*>(memory)),
        keys(queries + padded * kRowStride<kDim>),
        values(keys + padded * kRowStride<kDim>),
        query_infos(reinterpret_cast<SlotInfo*>(values + padded * kRowStride<kDim>)),
        key_infos(query_infos + padded),
        bias(reinterpret_cast<float*>(key_infos + padded)) {}
};

template <class T, int kDim>
std::size_t forward_shared_bytes(const AttentionParams& p) {
  const auto padded = static_cast<std::size_t>(padded_slots(p.window_size));
  return padded * (3 * kRowStride<kDim> * sizeof(T) + 2 * sizeof(SlotInfo)) +
         static_cast<std::size_t>(p.num_offsets) * sizeof(float);
}

// The softmax of a warp's 16 rows as far as it has come; a lane has rows g and g + 8.
template <int kDim>
struct RowState {
  float largest[2] = {-INFINITY, -INFINITY};
  float totals[2] = {};  // of this lane's columns
  float sums[kDim / 8][4] = {};
};

// Scores become weights, in units of the largest score so far.
template <int kDim>
__device__ void take_weights(float (&scores)[kStepTiles][2][4], RowState<kDim>& state) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = state.largest[half];
#pragma unroll
    for (int i = 0; i < kStepTiles * 4; ++i)
      largest = fmaxf(largest, scores[i / 4][i / 2 % 2][2 * half + i % 2]);
    largest = lanes_max<4>(largest);
    const float base = largest == -INFINITY ? 0.0F : largest;  // no key so far
    const float shrink = __expf(state.largest[half] - base);
    state.largest[half] = largest;
    float total = 0.0F;
#pragma unroll
    for (int i = 0; i < kStepTiles * 4; ++i) {
      float& score = scores[i / 4][i / 2 % 2][2 * half + i % 2];
      score = __expf(score - base);
      total += score;
    }
    state.totals[half] = state.totals[half] * shrink + total;
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile) {
      state.sums[tile][2 * half] *= shrink;
      state.sums[tile][2 * half + 1] *= shrink;
    }
  }
}

// A block has one head of one window, a warp 16 queries.
template <class T, int kDim, int kThreads, int kBlocks>
__global__ void __launch_bounds__(kThreads, kBlocks)
    attend_mma_kernel(const __grid_constant__ AttentionParams p, T* out, float* logsumexp) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int padded = padded_slots(p.window_size);
  const ForwardShared<T, kDim> shared(memory, padded);
  const AttentionWindow window(p, blockIdx.x, static_cast<int>(blockIdx.y));
  stage_head<kDim>(shared.queries, p, window, p.qkv, 3, kQueryPart);
  stage_head<kDim>(shared.keys, p, window, p.qkv, 3, kKeyPart);
  stage_head<kDim>(shared.values, p, window, p.qkv, 3, kValuePart);
  for (int i = static_cast<int>(threadIdx.x); i < p.num_offsets; i += static_cast<int>(blockDim.x)) {
    shared.bias[i] = p.bias[window.head * p.num_offsets + i];
  }
  __syncthreads();
  for (int slot = static_cast<int>(threadIdx.x); slot < padded; slot += static_cast<int>(blockDim.x)) {
    const int row = slot * kRowStride<kDim>;
    shared.query_infos[slot] = slot_info<kDim>(p, window, slot, shared.queries + row);
    shared.key_infos[slot] = slot_info<kDim>(p, window, slot, shared.keys + row);
  }
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first_row = static_cast<int>(threadIdx.x) / kWarpSize * kMmaTile;
  const SlotInfo queries[2] = {shared.query_infos[first_row + lane / 4],
                               shared.query_infos[first_row + lane / 4 + 8]};
  const float factor = score_factor(p, window.head);
  const float* bias = shared.bias + offset_center(p);
  LeftRows<kDim> query;
  load_left<kDim>(shared.queries + first_row * kRowStride<kDim>, lane, query);
  RowState<kDim> state;
  for (int first = 0; first < padded; first += kStepTiles * kMmaTile) {
    float scores[kStepTiles][2][4] = {};
#pragma unroll
    for (int tile = 0; tile < kStepTiles; ++tile) {
      const int begin = first + tile * kMmaTile;
      const bool exists = begin < padded;
      if (exists) add_row_products<kDim>(scores[tile], query, shared.keys + begin * kRowStride<kDim>, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        const SlotInfo key = exists ? shared.key_infos[begin + column] : SlotInfo{0.0F, 0, kPaddedRegion};
        float& score = scores[tile][i / 4][i % 4];
        score = key.region == kPaddedRegion ? -INFINITY
                                            : finish_score(score, factor, queries[i / 2 % 2], key, bias);
      }
    }
    take_weights<kDim>(scores, state);
#pragma unroll
    for (int tile = 0; tile < kStepTiles; ++tile) {
      const int begin = first + tile * kMmaTile;
      if (begin >= padded) continue;
      unsigned weights[4];
      pack_left<T>(scores[tile], weights);
      add_weighted_rows<kDim>(state.sums, weights, shared.values + begin * kRowStride<kDim>, lane);
    }
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = row_sum(state.totals[half]);
    const int slot = first_row + lane / 4 + 8 * half;
    if (slot >= p.window_size) continue;
    const std::int32_t position = p.positions[window.first_slot + slot];
    if (logsumexp != nullptr && lane % 4 == 0)
      logsumexp[window.logsumexp_element(p, slot)] = position < 0 ? 0.0F : state.largest[half] + logf(total);
    if (position < 0) continue;
    T* row = out + window.element(p, position, 1, 0) + lane % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile) {
      *reinterpret_cast<unsigned*>(row + tile * 8) =
          pack_pair<T>(state.sums[tile][2 * half] / total, state.sums[tile][2 * half + 1] / total);
    }
  }
}

template <class T, int kDim>
void launch(const AttentionParams& p, const WindowAttentionArgs& args, cudaStream_t stream) {
  const unsigned threads = mma_threads(p);
  auto* kernel = threads <= kSmallMmaThreads ? attend_mma_kernel<T, kDim, kSmallMmaThreads, 3>
                                             : attend_mma_kernel<T, kDim, kMostMmaThreads, 1>;
  const std::size_t shared_bytes = forward_shared_bytes<T, kDim>(p);
  allow_shared_bytes(kernel, shared_bytes);
  const dim3 grid(grid_size(p.num_windows), static_cast<unsigned>(p.num_heads));
  kernel<<<grid, threads, shared_bytes, stream>>>(p, args.out.as<T>(), args.logsumexp.as<float>());
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

bool attend_mma(const AttentionParams& p, const WindowAttentionArgs& args, cudaStream_t stream) {
  if (!aligned_to({args.qkv.data, args.out.data}, kVectorBytes)) return false;
  return dispatch_mma(args.qkv.dtype, p.head_dim,
                      [&]<class T, int kDim>() { launch<T, kDim>(p, args, stream); });
}

}  // namespace flex
