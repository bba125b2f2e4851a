#include <algorithm>

#include "kernels/moe/slot_row_tile.cuh"
#include "kernels/moe/slot_rows.cuh"

namespace flex {
namespace {

constexpr int kLongUnroll = 4;                        // accesses of a thread in flight
constexpr int kShortUnroll = 2;                       // ... of rows that have no more for a warp
constexpr std::int64_t kMaxZeroBlocks = 1024;         // some eight for each SM of a large GPU
constexpr std::int64_t kZeroBytesPerPiece = 1 << 16;  // large enough to hide the look at an expert's count

template <class T>
struct ScatterParams {
  Choices choices;
  RowShape shape;
  SlotMap map;
  SlotMap other_map;
  const T* rows;
  const T* other;
  const std::int32_t* counts;
  T* slots;
  float* dots;
  std::int64_t num_tokens;
  std::int64_t model_dim;
  // Unused slots are zeroed by blocks strewn evenly among those that move tokens: of the first b blocks,
  // (b * zero_share) >> 32 are of that kind.
  std::uint64_t zero_share;
  std::int64_t zero_blocks;
  std::int64_t slots_per_piece;
};

// Pieces of slots_per_piece slots of one expert, dealt to the zeroing blocks in turn.
template <class T, int kWidth>
__device__ void zero_unused_slots(const ScatterParams<T>& p, std::int64_t zero_block) {
  using Access = Pack<T, kWidth>;
  const SlotLayout& layout = p.map.layout;
  const std::int64_t pieces_per_expert = ceil_div(layout.capacity, p.slots_per_piece);
  const std::int64_t pieces = layout.num_experts * pieces_per_expert;
  const int lane_of_row = static_cast<int>(threadIdx.x) & (p.shape.lanes() - 1);
  const int row_of_block = static_cast<int>(threadIdx.x) >> p.shape.log2_lanes;
  for (std::int64_t piece = zero_block; piece < pieces; piece += p.zero_blocks) {
    const std::int64_t expert = piece / pieces_per_expert;
    const std::int64_t begin = (piece - expert * pieces_per_expert) * p.slots_per_piece;
    const std::int64_t end = min(begin + p.slots_per_piece, layout.capacity);
    const std::int64_t used = min(static_cast<std::int64_t>(p.counts[expert]), p.choices.capacity);
    for (std::int64_t slot = max(begin, used) + row_of_block; slot < end; slot += p.shape.rows_per_block()) {
      T* row = p.slots + p.map.row(expert, slot) * p.model_dim;
      for (int pack = lane_of_row; pack < p.shape.packs; pack += p.shape.lanes()) {
        Access::store(row + pack * kWidth, Access::zero());
      }
    }
  }
}

template <class T, int kWidth, bool kDots, int kUnroll>
__global__ void __launch_bounds__(kRowThreads, row_blocks_per_sm(kDots, kUnroll == kShortUnroll))
    scatter_kernel(const __grid_constant__ ScatterParams<T> p) {
  using Access = Pack<T, kWidth>;
  using Raw = typename Access::Raw;
  extern __shared__ float shared_dots[];
  const std::uint64_t zero_before = (blockIdx.x * p.zero_share) >> 32;
  if (((blockIdx.x + std::uint64_t{1}) * p.zero_share) >> 32 != zero_before) {
    return zero_unused_slots<T, kWidth>(p, static_cast<std::int64_t>(zero_before));
  }

  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  const int lanes = p.shape.lanes();
  const int lane_of_row = thread & (lanes - 1);
  const std::int64_t token =
      (blockIdx.x - static_cast<std::int64_t>(zero_before)) * p.shape.rows_per_block() +
      (thread >> p.shape.log2_lanes);
  const bool active = token < p.num_tokens;  // alike in all lanes of a warp
  const int top_k = p.choices.top_k;
  const DotSums sums = {shared_dots};
  if constexpr (kDots) sums.clear(warp, lane, top_k);

  for (int base = 0; active && base < top_k; base += kWarpSize) {
    const Choice mine = read_choice<kDots>(p.choices, p.map, p.other_map, token, base + lane);
    const int num_choices = min(top_k - base, kWarpSize);
    const T* row = p.rows + token * p.model_dim;
    for (int first = lane_of_row - lane; first < p.shape.packs; first += lanes * kUnroll) {
      Raw raw[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const int pack = first + lane + u * lanes;
        raw[u] = pack < p.shape.packs ? Access::load(row + pack * kWidth) : Access::zero();
      }
      for (int choice = 0; choice < num_choices; ++choice) {
        const std::int64_t to = __shfl_sync(kFullWarp, mine.row, choice);
        const float gate = __shfl_sync(kFullWarp, mine.gate, choice);
        if (to < 0) continue;  // alike in the whole warp
        Raw other[kUnroll];
        if constexpr (kDots) {
          const T* from = p.other + __shfl_sync(kFullWarp, mine.other_row, choice) * p.model_dim;
#pragma unroll
          for (int u = 0; u < kUnroll; ++u) {
            const int pack = first + lane + u * lanes;
            other[u] = pack < p.shape.packs ? Access::load(from + pack * kWidth) : Access::zero();
          }
        }
        T* slot = p.slots + to * p.model_dim;
        float dot = 0.0F;
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
          float values[kWidth];
          Access::unpack(raw[u], values);
          if constexpr (kDots) {
            float others[kWidth];
            Access::unpack(other[u], others);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) dot = fmaf(values[i], others[i], dot);
          }
#pragma unroll
          for (int i = 0; i < kWidth; ++i) values[i] *= gate;
          // The slot was read before it is written, by this thread: `slots` may be `other` itself.
          const int pack = first + lane + u * lanes;
          if (pack < p.shape.packs) Access::store(slot + pack * kWidth, Access::pack(values));
        }
        if constexpr (kDots) sums.add(warp, lane, top_k, base + choice, dot);
      }
    }
  }
  if constexpr (kDots) {
    const int first_warp = (thread - lane_of_row) / kWarpSize;
    sums.write(first_warp, lanes / kWarpSize, lane_of_row, lanes, top_k, active, p.dots + token * top_k);
  }
}

template <class T, int kWidth, int kUnroll>
void launch_scatter(const ScatterRowsArgs& args, cudaStream_t stream) {
  ScatterParams<T> p = {.choices = choices_of(args),
                        .shape = row_shape(args.rows.size(1) / kWidth, kUnroll),
                        .map = SlotMap(args.layout),
                        .other_map = SlotMap(args.other_layout),
                        .rows = args.rows.as<T>(),
                        .other = args.other.as<T>(),
                        .counts = args.counts.as<std::int32_t>(),
                        .slots = args.slots.as<T>(),
                        .dots = args.dots.as<float>(),
                        .num_tokens = args.rows.size(0),
                        .model_dim = args.rows.size(1)};
  const std::int64_t rows_per_block = p.shape.rows_per_block();
  const std::int64_t row_bytes =
      std::max<std::int64_t>(p.model_dim * static_cast<std::int64_t>(sizeof(T)), 1);
  p.slots_per_piece = std::max<std::int64_t>(rows_per_block, kZeroBytesPerPiece / row_bytes);
  const std::int64_t pieces = args.layout.num_experts * ceil_div(args.layout.capacity, p.slots_per_piece);
  p.zero_blocks = std::min(pieces, kMaxZeroBlocks);
  const std::int64_t blocks = p.zero_blocks + ceil_div(p.num_tokens, rows_per_block);
  if (blocks == 0) return;
  p.zero_share =
      ceil_div(static_cast<std::uint64_t>(p.zero_blocks) << 32, static_cast<std::uint64_t>(blocks));

  const bool dots = args.dots.present();
  const std::size_t shared_bytes = dot_bytes(dots, p.choices.top_k);
  auto* kernel = dots ? scatter_kernel<T, kWidth, true, kUnroll> : scatter_kernel<T, kWidth, false, kUnroll>;
  allow_shared_bytes(kernel, shared_bytes);
  kernel<<<grid_size(blocks), kRowThreads, shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void scatter_rows_cuda(const ScatterRowsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const bool aligned =
      rows_aligned(args.rows.size(1), args.rows.dtype, {args.rows.data, args.slots.data, args.other.data});
  dispatch_dtype(args.rows.dtype, [&]<class T>() {
    const bool is_short = args.rows.size(1) <= kWarpSize * kShortUnroll * kVectorWidth<T>;
    if (!aligned) return launch_scatter<T, 1, kLongUnroll>(args, native);
    is_short ? launch_scatter<T, kVectorWidth<T>, kShortUnroll>(args, native)
             : launch_scatter<T, kVectorWidth<T>, kLongUnroll>(args, native);
  });
}

}  // namespace flex
