#include "kernels/moe/slot_row_tile.cuh"
#include "kernels/moe/slot_rows.cuh"

namespace flex {
namespace {

constexpr int kUnroll = 2;  // accesses of a thread in flight, of each of two choices
// Blocks on an SM that registers must suffice for.
template <int kChoices>
inline constexpr int kFewBlocksPerSm = kChoices == 1 ? 6 : 4;

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

template <class T, int kWidth, bool kDots>
__global__ void __launch_bounds__(kRowThreads, row_blocks_per_sm(kDots, false))
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
      // Two choices at a time, so that the loads of both are on their way before the first sum.
      for (int choice = 0; choice < num_choices; choice += 2) {
        Raw slot[2][kUnroll];
        float gate[2];
        bool kept[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
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
        for (int c = 0; c < 2; ++c) {
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

// kChoices choices of a token and no dot products. Each lane looks up the choices for itself, all at once and
// without shuffles, and keeps few registers, so that more warps hide the two reads that depend on each other.
template <class T, int kWidth, int kChoices>
__global__ void __launch_bounds__(kRowThreads, kFewBlocksPerSm<kChoices>)
    gather_few_kernel(const __grid_constant__ GatherParams<T> p) {
  using Access = Pack<T, kWidth>;
  using Raw = typename Access::Raw;
  const int thread = static_cast<int>(threadIdx.x);
  const int lanes = p.shape.lanes();
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * p.shape.rows_per_block() + (thread >> p.shape.log2_lanes);
  if (token >= p.num_tokens) return;
  const T* from[kChoices];
  float gate[kChoices];
#pragma unroll
  for (int c = 0; c < kChoices; ++c) {
    const std::int64_t place = token * kChoices + c;
    const std::int64_t location = p.choices.locations[place];
    const std::int64_t expert = p.choices.indices[place];
    gate[c] = p.choices.gates == nullptr ? 1.0F : p.choices.gates[place];
    from[c] = location < p.choices.capacity ? p.slots + p.map.row(expert, location) * p.model_dim : nullptr;
  }
  T* row = p.rows + token * p.model_dim;
  for (int first = thread & (lanes - 1); first < p.shape.packs; first += lanes * kUnroll) {
    Raw slot[kChoices][kUnroll];
    Raw before[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int pack = first + u * lanes;
      const bool inside = pack < p.shape.packs;
#pragma unroll
      for (int c = 0; c < kChoices; ++c) {
        slot[c][u] = inside && from[c] != nullptr ? Access::load(from[c] + pack * kWidth) : Access::zero();
      }
      before[u] = inside && p.accumulate ? Access::load(row + pack * kWidth) : Access::zero();
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int pack = first + u * lanes;
      float sum[kWidth];
      Access::unpack(before[u], sum);
#pragma unroll
      for (int c = 0; c < kChoices; ++c) {
        if (from[c] == nullptr)
          continue;  // a dropped choice: not even a zero times an infinite gate is added
        float values[kWidth];
        Access::unpack(slot[c][u], values);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sum[i] = fmaf(gate[c], values[i], sum[i]);
      }
      if (pack < p.shape.packs) Access::store(row + pack * kWidth, Access::pack(sum));
    }
  }
}

template <class T, int kWidth>
auto gather_kernel_of(bool dots, int top_k) {
  if (dots) return gather_kernel<T, kWidth, true>;
  if (top_k == 1) return gather_few_kernel<T, kWidth, 1>;
  if (top_k == 2) return gather_few_kernel<T, kWidth, 2>;
  return gather_kernel<T, kWidth, false>;
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
  auto* kernel = gather_kernel_of<T, kWidth>(dots, p.choices.top_k);
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
