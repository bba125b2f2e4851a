#include <algorithm>
#include <cfloat>
#include <climits>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/route.h"

// Three launches: choose() makes scores, choices and gates, and counts the choices of each tile of kTile
// tokens; scan() turns those counts into the slot at which each tile begins; locate() adds the place within
// the tile. Counting is in integers and every other sum has one order, so that repeats give equal bits.
// Batch-prioritized routing sorts the tokens in between, and counts over tiles of the sorted order.
namespace flex {
namespace {

constexpr int kTile = 256;
constexpr int kChooseThreads = 512;
constexpr int kScanLanes = 32;  // experts of a scanning block
constexpr int kScanRows = 32;   // shares of an expert's tiles, one a thread
constexpr int kMaxSharedCounts = 8192;
constexpr unsigned long long kAllFinite = ~0ULL;
constexpr unsigned kOneBits = 0x3F800000U;  // 1.0F
constexpr int kMantissaBits = 23;

// What the kernels keep in the workspace.
struct Scratch {
  std::int64_t* first_bad = nullptr;       // flat index of the first logit that is not finite, or -1
  unsigned long long* tile_bad = nullptr;  // (tiles) the same for each tile, or kAllFinite
  int* tile_counts = nullptr;              // (k, tiles, E) choices of the tile, then the slot it begins at
  std::uint32_t* keys[2] = {};             // (T) what orders the tokens, before and after sorting
  std::int32_t* order[2] = {};             // (T) tokens, before and after sorting
  void* sort = nullptr;
  std::size_t sort_bytes = 0;
  std::int64_t bytes = 0;
};

// Cuts the workspace, of any alignment, into aligned pieces; with a null start it only counts bytes.
class Cutter {
 public:
  explicit Cutter(void* start) {
    const auto address = reinterpret_cast<std::uintptr_t>(start);
    const auto alignment = static_cast<std::uintptr_t>(kAlignmentBytes);
    next_ = ceil_div(address, alignment) * alignment;
  }
  template <class T>
  T* take(std::int64_t count) {
    const std::int64_t bytes =
        ceil_div(count * static_cast<std::int64_t>(sizeof(T)), kAlignmentBytes) * kAlignmentBytes;
    T* piece = reinterpret_cast<T*>(next_);
    next_ += static_cast<std::uintptr_t>(bytes);
    used_ += bytes;
    return piece;
  }
  [[nodiscard]] std::int64_t max_bytes() const { return used_ + kAlignmentBytes; }

 private:
  std::uintptr_t next_ = 0;
  std::int64_t used_ = 0;
};

// Scratch of the sort, without asking CUB for it in every call: a second buffer of the pairs, 256 counters
// for each tile of some thousand pairs, and little else. sort_tokens() checks that it suffices.
std::size_t max_sort_bytes(std::int64_t tokens) {
  constexpr std::int64_t kPerToken = 12;
  constexpr std::int64_t kConstant = 1 << 20;
  return static_cast<std::size_t>(kPerToken * tokens + kConstant);
}

std::int64_t num_tiles(std::int64_t tokens) { return ceil_div<std::int64_t>(tokens, kTile); }

// The largest score of E lies in [1/E, 1] but for rounding, so that few of a float's bits tell tokens apart.
int sort_bits(std::int64_t experts) {
  int log2_experts = 0;
  while ((std::int64_t{1} << log2_experts) < experts) ++log2_experts;
  int exponent_bits = 0;
  while ((1 << exponent_bits) <= log2_experts + 1) ++exponent_bits;
  return kMantissaBits + exponent_bits;
}

Scratch cut_workspace(void* start, std::int64_t tokens, std::int64_t experts, std::int64_t top_k) {
  Scratch scratch;
  Cutter cutter(start);
  scratch.first_bad = cutter.take<std::int64_t>(1);
  scratch.tile_bad = cutter.take<unsigned long long>(num_tiles(tokens));
  scratch.tile_counts = cutter.take<int>(top_k * num_tiles(tokens) * experts);
  for (auto& keys : scratch.keys) keys = cutter.take<std::uint32_t>(tokens);
  for (auto& order : scratch.order) order = cutter.take<std::int32_t>(tokens);
  scratch.sort_bytes = max_sort_bytes(tokens);
  scratch.sort = cutter.take<char>(static_cast<std::int64_t>(scratch.sort_bytes));
  scratch.bytes = cutter.max_bytes();
  return scratch;
}

struct RouteParams {
  const float* logits;
  float* scores;
  float* gates;
  std::int32_t* indices;
  std::int32_t* locations;
  std::int32_t* counts;
  std::int32_t* needed;
  Scratch scratch;
  std::int64_t num_tokens;
  std::int64_t num_tiles;
  int num_experts;
  int top_k;
  std::uint32_t max_key;
  bool normalize;
  bool prioritized;
  bool shared_counts;  // a tile's counts fit into shared memory
};

// Counts of the choices of one tile: in shared memory, or where they are too many, in their final place.
struct TileCounts {
  int* shared;
  const RouteParams& p;
  std::int64_t tile;

  __device__ int* final_place(int choice) const {
    return p.scratch.tile_counts + (choice * p.num_tiles + tile) * p.num_experts;
  }
  __device__ int* place(int choice) const {
    return p.shared_counts ? shared + choice * p.num_experts : final_place(choice);
  }
  __device__ void clear() const {
    for (int choice = 0; choice < p.top_k; ++choice) {
      int* counts = place(choice);
      for (int expert = threadIdx.x; expert < p.num_experts; expert += blockDim.x) counts[expert] = 0;
    }
  }
  __device__ void add(int choice, int expert) const { atomicAdd(place(choice) + expert, 1); }
  __device__ void write() const {
    if (!p.shared_counts) return;
    for (int choice = 0; choice < p.top_k; ++choice) {
      const int* counts = place(choice);
      int* to = final_place(choice);
      for (int expert = threadIdx.x; expert < p.num_experts; expert += blockDim.x)
        to[expert] = counts[expert];
    }
  }
};

__device__ bool is_finite(float value) { return fabsf(value) <= FLT_MAX; }

// Scores are not negative, so that their bits order as they do. The sign of a NaN is dropped: whatever the
// logits are, every token gets k different experts.
__device__ int score_bits(float score) { return static_cast<int>(__float_as_uint(score) & 0x7FFFFFFFU); }

__device__ float gate_divisor(const RouteParams& p, float sum_of_chosen) {
  return p.normalize && p.top_k > 1 ? fmaxf(sum_of_chosen, FLT_EPSILON) : 1.0F;
}

// For sorting by descending best score: smaller keys come first.
__device__ void write_key(const RouteParams& p, std::int64_t token, int best_bits) {
  const int below_one = static_cast<int>(kOneBits) - best_bits;
  p.scratch.keys[0][token] = min(static_cast<std::uint32_t>(max(below_one, 0)), p.max_key);
  p.scratch.order[0][token] = static_cast<std::int32_t>(token);
}

// What every choosing block does before and after its tokens.
struct ChooseBlock {
  const RouteParams& p;
  TileCounts counts;
  unsigned long long* bad;

  __device__ void begin() const {
    if (threadIdx.x == 0) *bad = kAllFinite;
    if (threadIdx.x == 0 && blockIdx.x == 0) *p.needed = 0;
    if (!p.prioritized) counts.clear();
    __syncthreads();
  }
  __device__ void note_bad(std::int64_t token, int expert) const {
    atomicMin(bad, static_cast<unsigned long long>(token * p.num_experts + expert));
  }
  __device__ void end() const {
    __syncthreads();
    if (threadIdx.x == 0) p.scratch.tile_bad[blockIdx.x] = *bad;
    if (!p.prioritized) counts.write();
  }
};

// A token is shared by kLanes neighbouring lanes. Each lane holds kValues of its experts in registers, in
// accesses of kWidth, in ascending order.
template <int kLanes, int kValues, int kWidth>
struct TokenSlice {
  static constexpr int kFree = -1;  // may still be chosen
  static constexpr int kNoExpert = -2;

  int lane;
  float values[kValues];
  int chosen_as[kValues];  // the choice that took the expert

  __device__ int expert(int i) const { return kWidth * (lane + kLanes * (i / kWidth)) + i % kWidth; }

  __device__ void load(const float* logits, int num_experts, bool active) {
#pragma unroll
    for (int i = 0; i < kValues; i += kWidth) {
      const bool present = expert(i) < num_experts;
      float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
      if (active && present) {
        if constexpr (kWidth == 4)
          four = *reinterpret_cast<const float4*>(logits + expert(i));
        else
          four.x = logits[expert(i)];
      }
      const float parts[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int part = 0; part < kWidth; ++part) {
        values[i + part] = parts[part];
        chosen_as[i + part] = present ? kFree : kNoExpert;
      }
    }
  }

  __device__ void softmax() {
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kValues; ++i) largest = fmaxf(largest, values[i]);
    largest = lanes_max<kLanes>(largest);
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      values[i] = expf(values[i] - largest);
      sum += values[i];
    }
    sum = lanes_sum<kLanes>(sum);
#pragma unroll
    for (int i = 0; i < kValues; ++i) values[i] /= sum;
  }

  __device__ void store(float* scores, int num_experts) const {
#pragma unroll
    for (int i = 0; i < kValues; i += kWidth) {
      if (expert(i) >= num_experts) continue;
      if constexpr (kWidth == 4) {
        *reinterpret_cast<float4*>(scores + expert(i)) =
            make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
      } else {
        scores[expert(i)] = values[i];
      }
    }
  }

  // Takes the best free expert of the token for `choice`; the lower of two with equal scores. Returns the
  // bits of its score.
  __device__ int choose(int choice) {
    int best = -1;
    int best_expert = INT_MAX;
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int bits = score_bits(values[i]);
      if (chosen_as[i] == kFree && bits > best) {
        best = bits;
        best_expert = expert(i);
      }
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      const int other = __shfl_xor_sync(kFullWarp, best, offset);
      const int other_expert = __shfl_xor_sync(kFullWarp, best_expert, offset);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (expert(i) == best_expert) chosen_as[i] = choice;
    }
    return best;
  }
};

template <int kLanes, int kValues, int kWidth>
__global__ void __launch_bounds__(kChooseThreads) choose_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  __shared__ unsigned long long bad;
  const ChooseBlock block = {p, {shared_counts, p, blockIdx.x}, &bad};
  block.begin();

  const std::int64_t tile_begin = static_cast<std::int64_t>(blockIdx.x) * kTile;
  TokenSlice<kLanes, kValues, kWidth> slice;
  slice.lane = static_cast<int>(threadIdx.x) % kLanes;
  // Whole warps take part in every round, so that the shuffles find all lanes; tokens past the end are idle.
  for (int place = threadIdx.x / kLanes; place < kTile; place += kChooseThreads / kLanes) {
    const std::int64_t token = tile_begin + place;
    const bool active = token < p.num_tokens;
    slice.load(p.logits + token * p.num_experts, p.num_experts, active);
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      if (active && slice.expert(i) < p.num_experts && !is_finite(slice.values[i])) {
        block.note_bad(token, slice.expert(i));
      }
    }
    slice.softmax();
    if (active) slice.store(p.scores + token * p.num_experts, p.num_experts);

    float sum = 0.0F;
    int best = 0;
    for (int choice = 0; choice < p.top_k; ++choice) {
      const int bits = slice.choose(choice);
      if (choice == 0) best = bits;
      sum += __int_as_float(bits);
    }
    if (!active) continue;
    const float divisor = gate_divisor(p, sum);
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      const int choice = slice.chosen_as[i];
      if (choice < 0) continue;
      p.indices[token * p.top_k + choice] = slice.expert(i);
      p.gates[token * p.top_k + choice] = slice.values[i] / divisor;
      if (!p.prioritized) block.counts.add(choice, slice.expert(i));
    }
    if (p.prioritized && slice.lane == 0) write_key(p, token, best);
  }
  block.end();
}

// For more experts than registers hold: a warp for each token, its row of scores in memory. A lane touches
// only its own experts, so that no lane waits for another's stores.
struct TokenRow {
  const RouteParams& p;
  std::int64_t token;
  int lane;

  __device__ void softmax(const ChooseBlock& block) const {
    const float* logits = p.logits + token * p.num_experts;
    float* scores = p.scores + token * p.num_experts;
    float largest = -INFINITY;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      if (!is_finite(logits[expert])) block.note_bad(token, expert);
      largest = fmaxf(largest, logits[expert]);
    }
    largest = lanes_max(largest);
    float sum = 0.0F;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      scores[expert] = expf(logits[expert] - largest);
      sum += scores[expert];
    }
    sum = lanes_sum(sum);
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) scores[expert] /= sum;
  }

  // The best expert that comes after (last_bits, last_expert) in the order of descending score, then
  // ascending expert.
  __device__ void next(int& last_bits, int& last_expert) const {
    const float* scores = p.scores + token * p.num_experts;
    int best = -1;
    int best_expert = INT_MAX;
    for (int expert = lane; expert < p.num_experts; expert += kWarpSize) {
      const int bits = score_bits(scores[expert]);
      const bool after = bits < last_bits || (bits == last_bits && expert > last_expert);
      if (after && bits > best) {
        best = bits;
        best_expert = expert;
      }
    }
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const int other = __shfl_xor_sync(kFullWarp, best, offset);
      const int other_expert = __shfl_xor_sync(kFullWarp, best_expert, offset);
      if (other > best || (other == best && other_expert < best_expert)) {
        best = other;
        best_expert = other_expert;
      }
    }
    last_bits = best;
    last_expert = best_expert;
  }
};

__global__ void __launch_bounds__(kChooseThreads) choose_many_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  __shared__ unsigned long long bad;
  const ChooseBlock block = {p, {shared_counts, p, blockIdx.x}, &bad};
  block.begin();

  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::int64_t tile_begin = static_cast<std::int64_t>(blockIdx.x) * kTile;
  for (int place = threadIdx.x / kWarpSize; place < kTile; place += kChooseThreads / kWarpSize) {
    const TokenRow row = {p, tile_begin + place, lane};
    if (row.token >= p.num_tokens) break;  // alike in the whole warp
    row.softmax(block);
    float sum = 0.0F;
    int bits = INT_MAX;
    int expert = -1;
    for (int choice = 0; choice < p.top_k; ++choice) {
      row.next(bits, expert);
      sum += __int_as_float(bits);
      // Choice j is kept by lane j % 32, which divides it when the sum is known.
      if (choice % kWarpSize == lane) {
        p.indices[row.token * p.top_k + choice] = expert;
        p.gates[row.token * p.top_k + choice] = __int_as_float(bits);
        if (!p.prioritized) block.counts.add(choice, expert);
      }
      if (p.prioritized && choice == 0 && lane == 0) write_key(p, row.token, bits);
    }
    const float divisor = gate_divisor(p, sum);
    for (int choice = lane; choice < p.top_k; choice += kWarpSize) {
      p.gates[row.token * p.top_k + choice] /= divisor;
    }
  }
  block.end();
}

// Counts over tiles of the sorted order.
__global__ void __launch_bounds__(kTile) count_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  const TileCounts counts = {shared_counts, p, blockIdx.x};
  counts.clear();
  __syncthreads();
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kTile + threadIdx.x;
  if (place < p.num_tokens) {
    const std::int64_t token = p.scratch.order[1][place];
    for (int choice = 0; choice < p.top_k; ++choice) counts.add(choice, p.indices[token * p.top_k + choice]);
  }
  __syncthreads();
  counts.write();
}

// The first bad logit of all tiles, for every thread of the block.
__device__ unsigned long long reduce_bad(const RouteParams& p, int thread, int threads) {
  __shared__ unsigned long long bad;
  if (thread == 0) bad = kAllFinite;
  __syncthreads();
  unsigned long long mine = kAllFinite;
  for (std::int64_t tile = thread; tile < p.num_tiles; tile += threads) {
    mine = min(mine, p.scratch.tile_bad[tile]);
  }
  if (mine != kAllFinite) atomicMin(&bad, mine);
  __syncthreads();
  return bad;
}

// Replaces each tile's count by the sum of those before it, in the order (choice, tile), for 32 experts a
// block. A thread adds a contiguous share of an expert's tiles, twice: for the shares' sums, and for its own
// places once it knows what comes before.
__global__ void __launch_bounds__(kScanLanes* kScanRows) scan_kernel(const __grid_constant__ RouteParams p) {
  __shared__ int shares[kScanRows][kScanLanes];
  const int x = threadIdx.x;
  const int y = threadIdx.y;
  const unsigned long long bad = reduce_bad(p, y * kScanLanes + x, kScanLanes * kScanRows);

  const int expert = static_cast<int>(blockIdx.x) * kScanLanes + x;
  const bool active = expert < p.num_experts;
  const std::int64_t rows = p.num_tiles * p.top_k;
  const std::int64_t share = ceil_div<std::int64_t>(rows, kScanRows);
  const std::int64_t begin = min(y * share, rows);
  const std::int64_t end = min(begin + share, rows);
  int* counts = p.scratch.tile_counts + expert;
  int sum = 0;
  if (active) {
#pragma unroll 8
    for (std::int64_t row = begin; row < end; ++row) sum += counts[row * p.num_experts];
  }
  shares[y][x] = sum;
  __syncthreads();

  int before = 0;
  for (int other = 0; other < y; ++other) before += shares[other][x];
  if (active) {
#pragma unroll 8
    for (std::int64_t row = begin; row < end; ++row) {
      const int count = counts[row * p.num_experts];
      counts[row * p.num_experts] = before;
      before += count;
    }
  }
  if (y != kScanRows - 1) return;
  // The last row of threads, one warp, has come to the totals.
  if (active) p.counts[expert] = before;
  const int largest = __reduce_max_sync(kFullWarp, active ? before : 0);
  if (x != 0) return;
  if (bad == kAllFinite) {
    atomicMax(p.needed, largest);
  } else {
    *p.needed = kRouteNotFinite;  // every block writes the same
  }
  if (blockIdx.x == 0) *p.scratch.first_bad = bad == kAllFinite ? -1 : static_cast<std::int64_t>(bad);
}

// Slot = begin of the tile + choices of the same expert before this one in the tile.
__global__ void __launch_bounds__(kTile) locate_kernel(const __grid_constant__ RouteParams p) {
  __shared__ alignas(16) int experts[kTile];
  const int thread = threadIdx.x;
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kTile + thread;
  const bool active = place < p.num_tokens;
  const std::int64_t token = !active ? 0 : p.prioritized ? p.scratch.order[1][place] : place;
  for (int choice = blockIdx.y; choice < p.top_k; choice += gridDim.y) {
    const int expert = active ? p.indices[token * p.top_k + choice] : -1;
    __syncthreads();  // the round before has read `experts`
    experts[thread] = expert;
    __syncthreads();
    int before = 0;
    const int warp_begin = thread / kWarpSize * kWarpSize;
    for (int i = 0; i < warp_begin; i += 4) {
      const int4 four = *reinterpret_cast<const int4*>(experts + i);
      before += (four.x == expert) + (four.y == expert) + (four.z == expert) + (four.w == expert);
    }
    const unsigned same = __match_any_sync(kFullWarp, expert);
    before += __popc(same & ((1U << (thread % kWarpSize)) - 1U));
    if (!active) continue;
    const std::int64_t row = choice * p.num_tiles + blockIdx.x;
    p.locations[token * p.top_k + choice] = p.scratch.tile_counts[row * p.num_experts + expert] + before;
  }
}

template <int kWidth>
void (*choose_for(std::int64_t experts))(RouteParams) {
  if (experts <= 8) return choose_kernel<1, 8, kWidth>;
  if (experts <= 16) return choose_kernel<2, 8, kWidth>;
  if (experts <= 32) return choose_kernel<4, 8, kWidth>;
  if (experts <= 64) return choose_kernel<8, 8, kWidth>;
  if (experts <= 128) return choose_kernel<16, 8, kWidth>;
  if (experts <= 256) return choose_kernel<32, 8, kWidth>;
  if (experts <= 512) return choose_kernel<32, 16, kWidth>;
  return choose_many_kernel;
}

RouteParams route_params(const RouteArgs& args) {
  const std::int64_t tokens = args.logits.size(0);
  const std::int64_t experts = args.logits.size(1);
  const std::int64_t top_k = args.indices.size(1);
  return {.logits = args.logits.as<float>(),
          .scores = args.scores.as<float>(),
          .gates = args.gates.as<float>(),
          .indices = args.indices.as<std::int32_t>(),
          .locations = args.locations.as<std::int32_t>(),
          .counts = args.counts.as<std::int32_t>(),
          .needed = args.needed_capacity.as<std::int32_t>(),
          .scratch = cut_workspace(args.workspace.data, tokens, experts, top_k),
          .num_tokens = tokens,
          .num_tiles = num_tiles(tokens),
          .num_experts = static_cast<int>(experts),
          .top_k = static_cast<int>(top_k),
          .max_key = (1U << sort_bits(experts)) - 1U,
          .normalize = args.normalize_gate,
          .prioritized = args.batch_prioritized,
          .shared_counts = top_k * experts <= kMaxSharedCounts};
}

void sort_tokens(const RouteParams& p, std::size_t shared_bytes, cudaStream_t stream) {
  // Stable, by ascending keys from tokens in order: of equal scores the lower token comes first.
  const auto sort = [&p, stream](void* scratch, std::size_t& bytes) {
    FLEX_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
        scratch, bytes, p.scratch.keys[0], p.scratch.keys[1], p.scratch.order[0], p.scratch.order[1],
        static_cast<int>(p.num_tokens), 0, sort_bits(p.num_experts), stream));
  };
  std::size_t needed_bytes = 0;
  sort(nullptr, needed_bytes);
  if (needed_bytes > p.scratch.sort_bytes) {
    throw DeviceError("route: the sort needs " + std::to_string(needed_bytes) + " bytes of scratch, got " +
                      std::to_string(p.scratch.sort_bytes));
  }
  std::size_t sort_bytes = p.scratch.sort_bytes;
  sort(p.scratch.sort, sort_bytes);
  count_kernel<<<grid_size(p.num_tiles), kTile, shared_bytes, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

std::int64_t route_workspace_bytes_cuda(std::int64_t num_tokens, std::int64_t num_experts, std::int64_t top_k,
                                        DType /*gate_type*/) {
  return cut_workspace(nullptr, num_tokens, num_experts, top_k).bytes;
}

void route_cuda(const RouteArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  const RouteParams p = route_params(args);
  if (p.num_tokens == 0) {
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.counts, 0, sizeof(std::int32_t) * p.num_experts, native));
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.needed, 0, sizeof(std::int32_t), native));
    FLEX_CUDA_CHECK(cudaMemsetAsync(p.scratch.first_bad, 0xFF, sizeof(std::int64_t), native));  // -1
    return;
  }
  const std::size_t shared_bytes =
      p.shared_counts ? sizeof(int) * static_cast<std::size_t>(p.top_k * p.num_experts) : 0;
  const bool vectors = p.num_experts % 4 == 0 && aligned_to({p.logits, p.scores}, kVectorBytes);
  auto* choose = vectors ? choose_for<4>(p.num_experts) : choose_for<1>(p.num_experts);
  choose<<<grid_size(p.num_tiles), kChooseThreads, shared_bytes, native>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
  if (p.prioritized) sort_tokens(p, shared_bytes, native);
  scan_kernel<<<grid_size(ceil_div(p.num_experts, kScanLanes)), dim3(kScanLanes, kScanRows), 0, native>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
  const auto choices = static_cast<unsigned>(std::min(p.top_k, 64));
  locate_kernel<<<dim3(grid_size(p.num_tiles), choices), kTile, 0, native>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

std::int64_t route_first_bad_logit_blocking_cuda(const RouteArgs& args, Stream& stream) {
  cudaStream_t native = launch_stream(stream);
  std::int64_t first_bad = -1;
  FLEX_CUDA_CHECK(cudaMemcpyAsync(&first_bad, route_params(args).scratch.first_bad, sizeof(first_bad),
                                  cudaMemcpyDeviceToHost, native));
  FLEX_CUDA_CHECK(cudaStreamSynchronize(native));
  return first_bad;
}

}  // namespace flex
