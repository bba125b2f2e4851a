#pragma once

#include "kernels/nn/attention_params.cuh"

/// Slots that the threads of a block look at together, for the kernels of window attention that work in fp32.
/// Included by .cu files only.
namespace flex {

/// Slots of a tile; scores are taken kGroup at a time.
inline constexpr int kTile = 32;
inline constexpr int kGroup = 8;
static_assert(kTile % kGroup == 0 && kTile == kWarpSize);

/// Two vectors of each slot in fp32 (keys and values, or queries and output gradients), and what a score
/// needs besides.
template <int kDim>
struct AttentionTile {
  float first[kTile][kDim];
  float second[kTile][kDim];
  float inverse_norms[kTile];  // of `first`
  int places[kTile];
  int regions[kTile];
  bool inside[kTile];
};

/// Where the two vectors of a slot lie: arrays of rows of [parts][heads][d].
template <class T>
struct TileSource {
  const T* data;
  int parts;
  int part;
};

/// Fills the tile with slots [begin, begin + kTile) of the window. For all threads of a block; synchronizes
/// it before and after.
template <int kDim, class T>
__device__ inline void fill_tile(AttentionTile<kDim>& tile, const AttentionParams& p,
                                 const AttentionWindow& window, int begin, const TileSource<T>& first,
                                 const TileSource<T>& second) {
  __syncthreads();  // the last tile has been read
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDim; i += static_cast<int>(blockDim.x)) {
    const int slot = begin + i / kDim;
    const int c = i % kDim;
    const std::int32_t position = slot < p.window_size ? p.positions[window.first_slot + slot] : -1;
    const bool exists = position >= 0 && c < p.head_dim;
    tile.first[i / kDim][c] =
        exists ? to_float(first.data[window.element(p, position, first.parts, first.part) + c]) : 0.0F;
    tile.second[i / kDim][c] =
        exists ? to_float(second.data[window.element(p, position, second.parts, second.part) + c]) : 0.0F;
  }
  __syncthreads();
  if (threadIdx.x < kTile) {
    const int row = static_cast<int>(threadIdx.x);
    const int slot = begin + row;
    const bool exists = slot < p.window_size;
    tile.inside[row] = exists && p.positions[window.first_slot + slot] >= 0;
    tile.regions[row] = exists ? p.regions[window.first_slot + slot] : kPaddedRegion;
    tile.places[row] = exists ? offset_place(p, slot) : 0;
    float squares = 0.0F;
    for (int i = 0; i < kDim; ++i) {  // neighbours begin at different banks
      const float v = tile.first[row][(i + row) % kDim];
      squares += v * v;
    }
    tile.inverse_norms[row] = inverse_norm(p, squares);
  }
  __syncthreads();
}

/// What a thread knows of its own slot.
struct OwnSlot {
  int slot;
  bool inside;
  std::int32_t position;
  int place;
  int region;

  __device__ OwnSlot(const AttentionParams& p, const AttentionWindow& window, int slot_in)
      : slot(slot_in),
        inside(false),
        position(slot_in < p.window_size ? p.positions[window.first_slot + slot_in] : -1),
        place(offset_place(p, slot_in)),
        region(slot_in < p.window_size ? p.regions[window.first_slot + slot_in] : kPaddedRegion) {
    inside = position >= 0;
  }
};

/// Threads of a block: one a slot, in whole warps.
inline unsigned threads_of_window(std::int64_t window_size) {
  return static_cast<unsigned>(ceil_div<std::int64_t>(window_size, kWarpSize) * kWarpSize);
}

}  // namespace flex
