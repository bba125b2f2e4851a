#include <algorithm>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/slot_map.cuh"
#include "kernels/moe/slot_rows.cuh"

// Both kernels are bound by memory. A row of M elements is moved by one or more whole warps, each thread with
// several 16-byte accesses in flight; no thread reads a row of tokens twice. Each element has one writer and
// each sum one order: no atomics, equal bits on repeat.
namespace flex {
namespace {

constexpr int kThreads = 256;
// Blocks on an SM that registers must suffice for: with dot products they would not suffice for four.
constexpr int blocks_per_sm(bool dots) { return dots ? 3 : 4; }
constexpr int kScatterUnroll = 4;                     // 16-byte accesses of a thread in flight
constexpr int kGatherUnroll = 2;                      // of each of two choices
constexpr std::int64_t kMaxZeroBlocks = 1024;         // some eight for each SM of a large GPU
constexpr std::int64_t kZeroBytesPerPiece = 1 << 16;  // large enough to hide the look at an expert's count

// What a launch decides about rows. A row is moved by `1 << log2_lanes` threads, a whole number of warps.
struct RowShape {
  int packs = 0;  // accesses of a row
  int log2_lanes = 5;
  [[nodiscard]] __host__ __device__ int lanes() const { return 1 << log2_lanes; }
  [[nodiscard]] __host__ __device__ int rows_per_block() const { return kThreads >> log2_lanes; }
};

RowShape row_shape(std::int64_t packs, int unroll) {
  RowShape shape = {.packs = static_cast<int>(packs)};
  while (shape.lanes() < kThreads && shape.lanes() * unroll < shape.packs) ++shape.log2_lanes;
  return shape;
}

// The choices of tokens. A warp reads up to 32 of a token's choices at once, one a lane, and passes them on
// by shuffles.
struct Choices {
  const std::int32_t* indices;
  const std::int32_t* locations;
  const float* gates;  // or null: 1
  int top_k;
  std::int64_t capacity;
};

struct Choice {
  std::int64_t row = -1;        // or -1: dropped
  std::int64_t other_row = -1;  // its row under the second layout
  float gate = 0.0F;
};

template <bool kOther>
__device__ Choice read_choice(const Choices& choices, const SlotMap& map, const SlotMap& other_map,
                              std::int64_t token, int choice) {
  Choice result;
  if (choice >= choices.top_k) return result;
  const std::int64_t place = token * choices.top_k + choice;
  const std::int64_t location = choices.locations[place];
  if (location >= choices.capacity) return result;
  const std::int64_t expert = choices.indices[place];
  result.row = map.row(expert, location);
  if constexpr (kOther) result.other_row = other_map.row(expert, location);
  result.gate = choices.gates == nullptr ? 1.0F : choices.gates[place];
  return result;
}

// Dot products of a token's row with its slots. Every warp of the row keeps its own partial sum for each
// choice in shared memory, (warp, choice); they are added in the order of the warps at the end.
struct DotSums {
  float* partials;

  __device__ void clear(int warp, int lane, int top_k) const {
    for (int choice = lane; choice < top_k; choice += kWarpSize) partials[warp * top_k + choice] = 0.0F;
    __syncwarp();
  }
  // `value` is this lane's share; called by whole warps.
  __device__ void add(int warp, int lane, int top_k, int choice, float value) const {
    const float sum = lanes_sum(value);
    if (lane == 0) partials[warp * top_k + choice] += sum;
  }
  // Called by whole blocks.
  __device__ void write(int first_warp, int num_warps, int lane_of_row, int lanes, int top_k, bool active,
                        float* dots) const {
    __syncthreads();
    if (!active) return;
    for (int choice = lane_of_row; choice < top_k; choice += lanes) {
      float sum = 0.0F;
      for (int warp = 0; warp < num_warps; ++warp) sum += partials[(first_warp + warp) * top_k + choice];
      dots[choice] = sum;
    }
  }
};

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

template <class T, int kWidth, bool kDots>
__global__ void __launch_bounds__(kThreads, blocks_per_sm(kDots))
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
    for (int first = lane_of_row - lane; first < p.shape.packs; first += lanes * kScatterUnroll) {
      Raw raw[kScatterUnroll];
#pragma unroll
      for (int u = 0; u < kScatterUnroll; ++u) {
        const int pack = first + lane + u * lanes;
        raw[u] = pack < p.shape.packs ? Access::load(row + pack * kWidth) : Access::zero();
      }
      for (int choice = 0; choice < num_choices; ++choice) {
        const std::int64_t to = __shfl_sync(kFullWarp, mine.row, choice);
        const float gate = __shfl_sync(kFullWarp, mine.gate, choice);
        if (to < 0) continue;  // alike in the whole warp
        Raw other[kScatterUnroll];
        if constexpr (kDots) {
          const T* from = p.other + __shfl_sync(kFullWarp, mine.other_row, choice) * p.model_dim;
#pragma unroll
          for (int u = 0; u < kScatterUnroll; ++u) {
            const int pack = first + lane + u * lanes;
            other[u] = pack < p.shape.packs ? Access::load(from + pack * kWidth) : Access::zero();
          }
        }
        T* slot = p.slots + to * p.model_dim;
        float dot = 0.0F;
#pragma unroll
        for (int u = 0; u < kScatterUnroll; ++u) {
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
__global__ void __launch_bounds__(kThreads, blocks_per_sm(kDots))
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
  for (int first = lane_of_row - lane; active && first < p.shape.packs; first += lanes * kGatherUnroll) {
    float sum[kGatherUnroll][kWidth] = {};
    Raw x[kGatherUnroll];
#pragma unroll
    for (int u = 0; u < kGatherUnroll; ++u) {
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
        Raw slot[2][kGatherUnroll];
        float gate[2];
        bool kept[2];
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int source = min(choice + c, kWarpSize - 1);
          const std::int64_t from = __shfl_sync(kFullWarp, mine.row, source);
          gate[c] = __shfl_sync(kFullWarp, mine.gate, source);
          kept[c] = choice + c < num_choices && from >= 0;
#pragma unroll
          for (int u = 0; u < kGatherUnroll; ++u) {
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
          for (int u = 0; u < kGatherUnroll; ++u) {
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
    for (int u = 0; u < kGatherUnroll; ++u) {
      const int pack = first + lane + u * lanes;
      if (pack < p.shape.packs) Access::store(row + pack * kWidth, Access::pack(sum[u]));
    }
  }
  if constexpr (kDots) {
    const int first_warp = (thread - lane_of_row) / kWarpSize;
    sums.write(first_warp, lanes / kWarpSize, lane_of_row, lanes, top_k, active, p.dots + token * top_k);
  }
}

template <class Args>
Choices choices_of(const Args& args) {
  return {.indices = args.indices.template as<std::int32_t>(),
          .locations = args.locations.template as<std::int32_t>(),
          .gates = args.gates.present() ? args.gates.template as<float>() : nullptr,
          .top_k = static_cast<int>(args.indices.size(1)),
          .capacity = args.capacity};
}

std::size_t dot_bytes(bool dots, int top_k) {
  return dots ? sizeof(float) * (kThreads / kWarpSize) * static_cast<std::size_t>(top_k) : 0;
}

template <class T, int kWidth>
void launch_scatter(const ScatterRowsArgs& args, cudaStream_t stream) {
  ScatterParams<T> p = {.choices = choices_of(args),
                        .shape = row_shape(args.rows.size(1) / kWidth, kScatterUnroll),
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
  auto* kernel = dots ? scatter_kernel<T, kWidth, true> : scatter_kernel<T, kWidth, false>;
  allow_shared_bytes(kernel, shared_bytes);
  kernel<<<grid_size(blocks), kThreads, shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

template <class T, int kWidth>
void launch_gather(const GatherRowsArgs& args, cudaStream_t stream) {
  const GatherParams<T> p = {.choices = choices_of(args),
                             .shape = row_shape(args.rows.size(1) / kWidth, kGatherUnroll),
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
  auto* kernel = dots ? gather_kernel<T, kWidth, true> : gather_kernel<T, kWidth, false>;
  allow_shared_bytes(kernel, shared_bytes);
  kernel<<<grid_size(ceil_div<std::int64_t>(p.num_tokens, p.shape.rows_per_block())), kThreads, shared_bytes,
           stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

// Rows start on 16-byte boundaries if the tensors do and a row is a multiple of 16 bytes.
bool rows_aligned(std::int64_t model_dim, DType dtype, std::initializer_list<const void*> tensors) {
  return model_dim * size_bytes(dtype) % kVectorBytes == 0 && aligned_to(tensors, kVectorBytes);
}

}  // namespace

void scatter_rows_cuda(const ScatterRowsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const bool aligned =
      rows_aligned(args.rows.size(1), args.rows.dtype, {args.rows.data, args.slots.data, args.other.data});
  dispatch_dtype(args.rows.dtype, [&]<class T>() {
    aligned ? launch_scatter<T, kVectorWidth<T>>(args, native) : launch_scatter<T, 1>(args, native);
  });
}

void gather_rows_cuda(const GatherRowsArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const bool aligned =
      rows_aligned(args.rows.size(1), args.rows.dtype, {args.rows.data, args.slots.data, args.x.data});
  dispatch_dtype(args.rows.dtype, [&]<class T>() {
    aligned ? launch_gather<T, kVectorWidth<T>>(args, native) : launch_gather<T, 1>(args, native);
  });
}

}  // namespace flex
