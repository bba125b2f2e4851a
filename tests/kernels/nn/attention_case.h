#pragma once

#include <string>

#include "kernels/nn/position_bias.h"
#include "kernels/nn/window_attention.h"
#include "tests/kernels/nn/parity.h"

/// Problems of window_attention, for the tests of both passes.
namespace flex::testing {

struct AttentionSizes {
  AttentionKind kind;
  WindowLayout layout;
  std::int64_t images, heads, head_dim;

  [[nodiscard]] std::int64_t rows() const { return images * layout.map.area(); }
  [[nodiscard]] std::int64_t channels() const { return heads * head_dim; }
  [[nodiscard]] std::int64_t offsets() const { return num_offsets(layout.window); }
  [[nodiscard]] Shape logsumexp() const {
    return {images * layout.num_windows().area(), heads, layout.window_size()};
  }
};

[[nodiscard]] inline std::string to_string(const AttentionSizes& s) {
  return std::string(name(s.kind)) + " " + to_string(Shape{s.images, s.heads, s.head_dim}) + " of map " +
         to_string(Shape{s.layout.map.rows, s.layout.map.columns, s.layout.window.rows, s.layout.shift.rows});
}

inline constexpr AttentionKind kCosineKind = AttentionKind::kCosine;
inline constexpr AttentionKind kDotKind = AttentionKind::kScaledDot;

/// One position, padding without and with a shift, windows that nothing divides, real ones, and heads of
/// other sizes.
inline const std::vector<AttentionSizes> kAttentionSizes = {
    {kCosineKind, WindowLayout::fit({1, 1}, 4, false), 2, 1, 8},
    {kDotKind, WindowLayout::fit({2, 2}, 4, true), 3, 2, 16},
    {kCosineKind, WindowLayout::fit({8, 8}, 4, true), 2, 2, 16},
    {kDotKind, WindowLayout::fit({8, 8}, 4, true), 0, 2, 16},
    {kCosineKind, WindowLayout::fit({9, 7}, 4, true), 2, 3, 32},
    {kDotKind, WindowLayout::fit({5, 5}, 3, false), 1, 2, 5},
    {kDotKind, WindowLayout::fit({14, 14}, 7, true), 2, 3, 32},
    {kCosineKind, WindowLayout::fit({12, 12}, 12, false), 3, 4, 32},
    {kCosineKind, WindowLayout::fit({24, 24}, 12, true), 2, 2, 32},
    {kDotKind, WindowLayout::fit({10, 12}, 8, true), 2, 1, 64},
    {kCosineKind, WindowLayout::fit({16, 16}, 16, false), 1, 2, 32},
    {kCosineKind, WindowLayout::fit({20, 20}, 16, true), 1, 1, 32},
    {kDotKind, WindowLayout::fit({8, 8}, 8, false), 2, 1, 128}};

/// Factors of 1 to e^2.5 and biases of up to 8.
inline constexpr double kLargestFactor = 12.2;
inline constexpr double kLargestBias = 8.0;
/// An error d of a score is one of 2 d of a weight, relative to it. A score's own: the product's, times the
/// factor, and some roundings of its terms. Scaled dot products of d terms are at most d / sqrt(d) here.
[[nodiscard]] inline double weight_tolerance(const AttentionSizes& s) {
  const double factor =
      s.kind == AttentionKind::kCosine ? kLargestFactor : std::sqrt(static_cast<double>(s.head_dim));
  return 2.0 * (factor * product_tolerance(DType::kF32, s.head_dim) +
                4.0 * (factor + kLargestBias) * unit_roundoff(DType::kF32));
}

}  // namespace flex::testing
