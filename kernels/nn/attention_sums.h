#pragma once

#include <cstdint>

#include "kernels/nn/window_attention.h"

/// Gradients of bias and scale, which all windows share: each block of the backward pass sums over some
/// windows of a head, and what they found is added in a fixed order. Private to window_attention; CUDA builds
/// only.
namespace flex {

/// Where the sums of the `parts` of each head lie, in the workspace.
struct AttentionSums {
  std::int64_t parts = 0;   ///< 0 without windows
  float* scores = nullptr;  ///< (parts, heads, N keys, N queries): gradients of scores
  float* scales = nullptr;  ///< (parts, heads): of the cosine's factor, by its logarithm
};
[[nodiscard]] AttentionSums attention_sums(const WindowLayout& layout, std::int64_t num_windows,
                                           std::int64_t num_heads, const TensorView& workspace);

/// dbias_table and dscale from the parts; what lies in `scores` is overwritten.
void add_attention_sums_cuda(const WindowAttentionBackwardArgs& args, const AttentionSums& sums,
                             Stream& stream);

}  // namespace flex
