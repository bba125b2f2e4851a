#include <algorithm>
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/route.h"
#include "kernels/moe/route_params.cuh"

// Places of the choices, from the counts of tiles.
namespace flex {
namespace {

constexpr int kScanLanes = 32;  // experts of a scanning block
constexpr int kScanRows = 32;   // shares of an expert's tiles, one a thread
constexpr int kScanAhead = 8;
constexpr int kMaxChoiceBlocks = 64;

// Counts over tiles of the sorted order.
__global__ void __launch_bounds__(kRouteTile) count_kernel(const __grid_constant__ RouteParams p) {
  extern __shared__ int shared_counts[];
  const TileCounts counts = {shared_counts, p, blockIdx.x};
  counts.clear();
  __syncthreads();
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kRouteTile + threadIdx.x;
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
  for (std::int64_t first = begin; active && first < end; first += kScanAhead) {
    int held[kScanAhead];  // read together: a load would otherwise wait for the store before it
#pragma unroll
    for (int i = 0; i < kScanAhead; ++i) {
      held[i] = first + i < end ? counts[(first + i) * p.num_experts] : 0;
    }
#pragma unroll
    for (int i = 0; i < kScanAhead; ++i) {
      if (first + i < end) counts[(first + i) * p.num_experts] = before;
      before += held[i];
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
__global__ void __launch_bounds__(kRouteTile) locate_kernel(const __grid_constant__ RouteParams p) {
  __shared__ alignas(16) int experts[kRouteTile];
  const int thread = threadIdx.x;
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kRouteTile + thread;
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

void sort_tokens(const RouteParams& p, cudaStream_t stream) {
  // Stable, by ascending keys from tokens in order: of equal scores the lower token comes first.
  const auto sort = [&p, stream](void* scratch, std::size_t& bytes) {
    FLEX_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
        scratch, bytes, p.scratch.keys[0], p.scratch.keys[1], p.scratch.order[0], p.scratch.order[1],
        static_cast<int>(p.num_tokens), 0, route_sort_bits(p.num_experts), stream));
  };
  std::size_t needed_bytes = 0;
  sort(nullptr, needed_bytes);
  if (needed_bytes > p.scratch.sort_bytes) {
    throw DeviceError("route: the sort needs " + std::to_string(needed_bytes) + " bytes of scratch, got " +
                      std::to_string(p.scratch.sort_bytes));
  }
  std::size_t sort_bytes = p.scratch.sort_bytes;
  sort(p.scratch.sort, sort_bytes);
  count_kernel<<<grid_size(p.num_tiles), kRouteTile, route_shared_bytes(p), stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void place_choices(const RouteParams& p, cudaStream_t stream) {
  if (p.prioritized) sort_tokens(p, stream);
  scan_kernel<<<grid_size(ceil_div(p.num_experts, kScanLanes)), dim3(kScanLanes, kScanRows), 0, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
  const auto choices = static_cast<unsigned>(std::min(p.top_k, kMaxChoiceBlocks));
  locate_kernel<<<dim3(grid_size(p.num_tiles), choices), kRouteTile, 0, stream>>>(p);
  FLEX_CUDA_CHECK(cudaGetLastError());
}

}  // namespace flex
