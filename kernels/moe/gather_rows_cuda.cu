#include "kernels/moe/slot_row_tile.cuh"
#include "kernels/moe/slot_rows.cuh"

namespace flex {
namespace {

constexpr int kUnroll = 2;  // accesses of a thread in flight, of each choice

template <class T>
struct GatherParams {
  Choices choices;
  RowShape shape;
  SlotMap map;
  const T* slots;
  const T* x;
  T* rows;
  float* dots;
  std::int64_t num_tokens;
  std::int64_t model_dim;
  bool accumulate;
};

// kTogether choices at a time, so that the loads of all are on their way before the first sum.
template <class T, int kWidth, bool kDots, int kTogether>
__global__ void __launch_bounds__(kRowThreads, row_blocks_per_sm(kDots, kTogether == 1))
    gather_kernel(const __grid_constant__ GatherParams<T> p) {
  using Access = Pack<T, kWidth>;
  using Raw = typename Access::Raw;
  extern __shared__ float shared_dots[];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const int lanes = p.shape.lanes();
  const int lane_of_row = thread & (lanes - 1);
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * p.shape.rows_per_block() + (thread >> p.shape.log2_lanes);
  const bool active = token < p.num_tokens;  // alike in all lanes of a warp
  const int top_k = p.choices.top_k;
  const DotSums sums = {shared_dots};
  if constexpr (kDots) sums.clear(warp, lane, top_k);

  Choice mine;
  if (active) mine = read_choice<false>(p.choices, p.map, p.map, token, lane);
  T* row = p.rows + token * p.model_dim;
  for (int first = lane_of_row - lane; active && first < p.shape.packs; first += lanes * kUnroll) {
    float sum[kUnroll][kWidth] = {};
    Raw x[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int pack = first + lane + u * lanes;
      if constexpr (kDots) {
        x[u] =
            pack < p.shape.packs ? Access::load(p.x + token * p.model_dim + pack * kWidth) : Access::zero();
      }
      if (p.accumulate && pack < p.shape.packs) Access::unpack(Access::load(row + pack * kWidth), sum[u]);
    }
    for (int base = 0; base < top_k; base += kWarpSize) {
      if (top_k > kWarpSize) mine = read_choice<false>(p.choices, p.map, p.map, token, base + lane);
      const int num_choices = min(top_k - base, kWarpSize);
      for (int choice = 0; choice < num_choices; choice += kTogether) {
        Raw slot[kTogether][kUnroll];
        float gate[kTogether];
        bool kept[kTogether];
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          const int source = min(choice + c, kWarpSize - 1);
          const std::int64_t from = __shfl_sync(kFullWarp, mine.row, source);
          gate[c] = __shfl_sync(kFullWarp, mine.gate, source);
          kept[c] = choice + c < num_choices && from >= 0;
#pragma unroll
          for (int u = 0; u < kUnroll; ++u) {
            const int pack = first + lane + u * lanes;
            slot[c][u] = kept[c] && pack < p.shape.packs
                             ? Access::load(p.slots + from * p.model_dim + pack * kWidth)
                             : Access::zero();
          }
        }
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          if (!kept[c]) continue;  // alike in the whole warp
          float dot = 0.0F;
#pragma unroll
          for (int u = 0; u < kUnroll; ++u) {
            float values[kWidth];
            Access::unpack(slot[c][u], values);
            if constexpr (kDots) {
              float others[kWidth];
              Access::unpack(x[u], others);
#pragma unroll
              for (int i = 0; i < kWidth; ++i) dot = fmaf(values[i], others[i], dot);
            }
#pragma unroll
            for (int i = 0; i < kWidth; ++i) sum[u][i] = fmaf(gate[c], values[i], sum[u][i]);
          }
          if constexpr (kDots) sums.add(warp, lane, top_k, base + choice + c, dot);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int pack = first + lane + u * lanes;
      if (pack < p.shape.packs) Access::store(row + pack * kWidth, Access::pack(sum[u]));
    }
  }
  if constexpr (kDots) {
    const int first_warp = (thread - lane_of_row) / kWarpSize;
    sums.write(first_warp, lanes / kWarpSize, lane_of_row, lanes, top_k, active, p.dots + token * top_k);
  }
}

template <class T, int kWidth>
void launch_gather(const GatherRowsArgs& args, cudaStream_t stream) {
  const GatherParams<T> p = {.choices = choices_of(args),
                             .shape = row_shape(args.rows.size(1) / kWidth, kUnroll),
                             .map = SlotMap(args.layout),
                             .slots = args.slots.as<T>(),
                             .x = args.x.as<T>(),
                             .rows = args.rows.as<T>(),
                             .dots = args.dots.as<float>(),
                             .num_tokens = args.rows.size(0),
                             .model_dim = args.rows.size(1),
                             .accumulate = args.accumulate};
  if (p.num_tokens == 0) return;
  const bool dots = args.dots.present();
  const std::size_t shared_bytes = dot_bytes(dots, p.choices.top_k);
  const bool one = p.choices.top_k == 1;
  auto* kernel = dots ? (one ? gather_kernel<T, kWidth, true, 1> : gather_kernel<T, kWidth, true, 2>)
                      : (one ? gather_kernel<T, kWidth, false, 1> : gather_kernel<T, kWidth, false, 2>);
  allow_shared_bytes(kernel, shared_bytes);
  kernel<<<grid_size(ceil_div<std::int64_t>(p.num_tokens, p.shape.rows_per_block())), kRowThreads,
           shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void gather_rows_cuda(const GatherRowsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const bool aligned =
      rows_aligned(args.rows.size(1), args.rows.dtype, {args.rows.data, args.slots.data, args.x.data});
  dispatch_dtype(args.rows.dtype, [&]<class T>() {
    aligned ? launch_gather<T, kVectorWidth<T>>(args, native) : launch_gather<T, 1>(args, native);
  });
}

}  // namespace flex
