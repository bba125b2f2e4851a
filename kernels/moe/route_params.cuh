#pragma once

#include <cuda_runtime.h>

#include <cstdint>

/// What the parts of route() on CUDA share. Three launches: choose_experts() makes scores, choices and gates,
/// and counts the choices of each tile of kRouteTile tokens; place_choices() turns those counts into the slot
/// at which each tile begins, and then adds each choice's place within its tile. Counting is in integers and
/// every other sum has one order, so that repeats give equal bits. Batch-prioritized routing sorts the tokens
/// in between, and counts over tiles of the sorted order. Included by .cu files only.
namespace flex {

inline constexpr int kRouteTile = 256;
inline constexpr unsigned long long kAllFinite = ~0ULL;

/// What the kernels keep in the workspace.
struct RouteScratch {
  std::int64_t* first_bad = nullptr;       // flat index of the first logit that is not finite, or -1
  unsigned long long* tile_bad = nullptr;  // (tiles) the same for each tile, or kAllFinite
  int* tile_counts = nullptr;              // (k, tiles, E) choices of the tile, then the slot it begins at
  std::uint32_t* keys[2] = {};             // (T) what orders the tokens, before and after sorting
  std::int32_t* order[2] = {};             // (T) tokens, before and after sorting
  void* sort = nullptr;
  std::size_t sort_bytes = 0;
  std::int64_t bytes = 0;
};

struct RouteParams {
  const float* logits;
  float* scores;
  float* gates;
  std::int32_t* indices;
  std::int32_t* locations;
  std::int32_t* counts;
  std::int32_t* needed;
  RouteScratch scratch;
  std::int64_t num_tokens;
  std::int64_t num_tiles;
  int num_experts;
  int top_k;
  std::uint32_t max_key;
  bool normalize;
  bool prioritized;
  bool shared_counts;  // a tile's counts fit into shared memory
};

/// Counts of the choices of one tile: in shared memory, or where they are too many, in their final place.
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

/// Smallest number of low bits of a key that order the tokens, E experts.
[[nodiscard]] int route_sort_bits(std::int64_t experts);
/// Shared memory of a block that counts.
[[nodiscard]] std::size_t route_shared_bytes(const RouteParams& p);

void choose_experts(const RouteParams& p, cudaStream_t stream);
void place_choices(const RouteParams& p, cudaStream_t stream);

}  // namespace flex
