#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"

/// How a map of positions is cut into windows.
namespace flex {

/// Rows and columns of a map, of a window, or of a shift.
struct Extent {
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  [[nodiscard]] constexpr std::int64_t area() const { return rows * columns; }
  friend constexpr bool operator==(const Extent&, const Extent&) = default;
};

/// A map is padded at the bottom and right to whole windows, rolled up and left by `shift`, and cut into
/// windows, row by row. S slots are the positions of all windows in (window, row, column) order.
/// @source numerics.md "SwinV2-MoE"; Liu et al., "Swin Transformer", 3.2
struct WindowLayout {
  Extent map;
  Extent window;
  Extent shift;

  /// The window of a block: clamped to the map, and for a `shifted` block moved by half a window in both
  /// directions, if the map is larger than the window. @throws InputError for extents below 1.
  [[nodiscard]] static WindowLayout fit(Extent map, std::int64_t window, bool shifted);

  [[nodiscard]] constexpr Extent num_windows() const {
    return {(map.rows + window.rows - 1) / window.rows, (map.columns + window.columns - 1) / window.columns};
  }
  /// N, positions of one window.
  [[nodiscard]] constexpr std::int64_t window_size() const { return window.area(); }
  /// S: slots of one map.
  [[nodiscard]] constexpr std::int64_t num_slots() const { return num_windows().area() * window_size(); }
  [[nodiscard]] constexpr bool is_padded() const { return num_slots() != map.area(); }

  friend constexpr bool operator==(const WindowLayout&, const WindowLayout&) = default;
};

/// Region of a slot that lies in the padding: it is nobody's key.
inline constexpr std::uint8_t kPaddedRegion = 255;
/// What is added to a score between positions of two regions, which were not neighbours before the roll.
inline constexpr double kRegionPenalty = -100.0;

/// The slots of a layout, made once and read by every pass: kernels gather through it, so that neither
/// windows nor masks are ever written to memory.
class WindowMap {
 public:
  /// Blocks until the two lists are on the device. @throws InputError for a layout that cannot be.
  WindowMap(const WindowLayout& layout, Device device);

  [[nodiscard]] const WindowLayout& layout() const { return layout_; }
  [[nodiscard]] Device device() const { return positions_.device(); }
  /// (S) i32: row * map.columns + column of each slot in the map, -1 in the padding.
  [[nodiscard]] ConstTensorView positions() const { return positions_; }
  /// (S) u8: slots of a window see each other unpenalized where these are equal.
  [[nodiscard]] ConstTensorView regions() const { return regions_; }
  /// True if any window holds two regions.
  [[nodiscard]] bool is_masked() const { return is_masked_; }

 private:
  WindowLayout layout_;
  Tensor positions_;
  Tensor regions_;
  bool is_masked_ = false;
};

}  // namespace flex
