#include "kernels/nn/window_map.h"

#include "base/require.h"

namespace flex {
namespace {

// Of position `at` of the rolled axis: what comes before the last window, the part of that window which was
// its neighbour, and what was rolled in from the other end.
std::uint8_t region_of(std::int64_t at, std::int64_t padded, std::int64_t window, std::int64_t shift) {
  if (shift == 0 || at < padded - window) return 0;
  return at < padded - shift ? 1 : 2;
}

void check_layout(const WindowLayout& layout) {
  const auto is_positive = [](Extent extent) { return extent.rows >= 1 && extent.columns >= 1; };
  require(is_positive(layout.map) && is_positive(layout.window),
          "WindowMap: a map of {} x {} in windows of {} x {}; extents are 1 or more", layout.map.rows,
          layout.map.columns, layout.window.rows, layout.window.columns);
  const auto is_shift = [](std::int64_t shift, std::int64_t window) { return shift >= 0 && shift < window; };
  require(is_shift(layout.shift.rows, layout.window.rows) &&
              is_shift(layout.shift.columns, layout.window.columns),
          "WindowMap: a shift of {} x {} is not below the window's {} x {}", layout.shift.rows,
          layout.shift.columns, layout.window.rows, layout.window.columns);
}

}  // namespace

WindowLayout WindowLayout::fit(Extent map, std::int64_t window, bool shifted) {
  require(map.rows >= 1 && map.columns >= 1 && window >= 1,
          "WindowLayout: a map of {} x {} in windows of {}; extents are 1 or more", map.rows, map.columns,
          window);
  const auto shift = [&](std::int64_t extent) { return shifted && extent > window ? window / 2 : 0; };
  return {.map = map,
          .window = {std::min(map.rows, window), std::min(map.columns, window)},
          .shift = {shift(map.rows), shift(map.columns)}};
}

WindowMap::WindowMap(const WindowLayout& layout, Device device) : layout_(layout) {
  check_layout(layout);
  const auto [map, window, shift] = layout;
  const Extent windows = layout.num_windows();
  const Extent padded = {windows.rows * window.rows, windows.columns * window.columns};
  Tensor positions(DType::kI32, {layout.num_slots()});
  Tensor regions(DType::kU8, {layout.num_slots()});
  auto* position = positions.as<std::int32_t>();
  auto* region = regions.as<std::uint8_t>();
  std::int64_t slot = 0;
  for (std::int64_t index = 0; index < windows.area(); ++index) {
    const std::int64_t first_row = index / windows.columns * window.rows;
    const std::int64_t first_column = index % windows.columns * window.columns;
    std::uint8_t first_region = kPaddedRegion;  // of the window
    for (std::int64_t i = 0; i < window.area(); ++i, ++slot) {
      const std::int64_t rolled_row = first_row + i / window.columns;
      const std::int64_t rolled_column = first_column + i % window.columns;
      const std::int64_t row = (rolled_row + shift.rows) % padded.rows;
      const std::int64_t column = (rolled_column + shift.columns) % padded.columns;
      const bool is_inside = row < map.rows && column < map.columns;
      position[slot] = is_inside ? static_cast<std::int32_t>(row * map.columns + column) : -1;
      region[slot] = kPaddedRegion;
      if (!is_inside) continue;
      region[slot] =
          static_cast<std::uint8_t>(3 * region_of(rolled_row, padded.rows, window.rows, shift.rows) +
                                    region_of(rolled_column, padded.columns, window.columns, shift.columns));
      if (first_region == kPaddedRegion) first_region = region[slot];
      is_masked_ = is_masked_ || region[slot] != first_region;
    }
  }
  positions_ = Tensor(DType::kI32, positions.shape(), device);
  regions_ = Tensor(DType::kU8, regions.shape(), device);
  copy_blocking(positions_, positions);
  copy_blocking(regions_, regions);
}

}  // namespace flex
