#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda_launch.cuh"
#include "kernels/moe/slot_map.cuh"

/// What the two movements between tokens and slots share. Both are bound by memory. A row of M elements is
/// moved by one or more whole warps, each thread with several 16-byte accesses in flight; no thread reads a
/// row of tokens twice. Each element has one writer and each sum one order: no atomics, equal bits on repeat.
namespace flex {

inline constexpr int kRowThreads = 256;
/// Blocks on an SM that registers must suffice for. Short rows leave few bytes in flight in each warp, so
/// that it takes more warps to keep the memory busy; with dot products registers do not suffice for as many.
constexpr int row_blocks_per_sm(bool dots, bool lean) { return (dots ? 3 : 4) + (lean ? 1 : 0); }

/// What a launch decides about rows. A row is moved by `1 << log2_lanes` threads, a whole number of warps.
struct RowShape {
  int packs = 0;  // accesses of a row
  int log2_lanes = 5;
  [[nodiscard]] __host__ __device__ int lanes() const { return 1 << log2_lanes; }
  [[nodiscard]] __host__ __device__ int rows_per_block() const { return kRowThreads >> log2_lanes; }
};

inline RowShape row_shape(std::int64_t packs, int unroll) {
  RowShape shape = {.packs = static_cast<int>(packs)};
  while (shape.lanes() < kRowThreads && shape.lanes() * unroll < shape.packs) ++shape.log2_lanes;
  return shape;
}

/// The choices of tokens. A warp reads up to 32 of a token's choices at once, one a lane, and passes them on
/// by shuffles.
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
__device__ inline Choice read_choice(const Choices& choices, const SlotMap& map, const SlotMap& other_map,
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

/// Dot products of a token's row with its slots. Every warp of the row keeps its own partial sum for each
/// choice in shared memory, (warp, choice); they are added in the order of the warps at the end.
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

template <class Args>
Choices choices_of(const Args& args) {
  return {.indices = args.indices.template as<std::int32_t>(),
          .locations = args.locations.template as<std::int32_t>(),
          .gates = args.gates.present() ? args.gates.template as<float>() : nullptr,
          .top_k = static_cast<int>(args.indices.size(1)),
          .capacity = args.capacity};
}

inline std::size_t dot_bytes(bool dots, int top_k) {
  return dots ? sizeof(float) * (kRowThreads / kWarpSize) * static_cast<std::size_t>(top_k) : 0;
}

/// Rows start on 16-byte boundaries if the tensors do and a row is a multiple of 16 bytes.
inline bool rows_aligned(std::int64_t model_dim, DType dtype, std::initializer_list<const void*> tensors) {
  return model_dim * size_bytes(dtype) % kVectorBytes == 0 && aligned_to(tensors, kVectorBytes);
}

}  // namespace flex
