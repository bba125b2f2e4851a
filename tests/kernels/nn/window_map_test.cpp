#include "kernels/nn/window_map.h"

#include <algorithm>

#include "tests/support/compare.h"
#include "tests/support/tensors.h"

namespace flex::testing {
namespace {

TEST(WindowLayout, IsClampedToTheMapAndShiftedWhereTheMapIsLarger) {
  EXPECT_EQ(WindowLayout::fit({8, 8}, 4, false), (WindowLayout{{8, 8}, {4, 4}, {0, 0}}));
  EXPECT_EQ(WindowLayout::fit({8, 8}, 4, true), (WindowLayout{{8, 8}, {4, 4}, {2, 2}}));
  EXPECT_EQ(WindowLayout::fit({4, 4}, 4, true), (WindowLayout{{4, 4}, {4, 4}, {0, 0}}));
  EXPECT_EQ(WindowLayout::fit({2, 9}, 7, true), (WindowLayout{{2, 9}, {2, 7}, {0, 3}}));
  EXPECT_EQ(error_text([] {
              (void)WindowLayout::fit({0, 4}, 4, false);
            }),
            "WindowLayout: a map of 0 x 4 in windows of 4; extents are 1 or more");
}

// A map of 4 x 4 in windows of 2 x 2 rolled by 1: the last window holds the corners.
TEST(WindowMap, RollsTheMap) {
  const WindowMap map({{4, 4}, {2, 2}, {1, 1}}, Device::cpu());
  EXPECT_EQ(values_of(map.positions()),
            (std::vector<double>{5, 6, 9, 10, 7, 4, 11, 8, 13, 14, 1, 2, 15, 12, 3, 0}));
  // Rows and columns 0 and 1 come before the last window; 2 and 3 are on both sides of the seam.
  EXPECT_EQ(values_of(map.regions()), (std::vector<double>{0, 0, 0, 0, 1, 2, 1, 2, 3, 3, 6, 6, 4, 5, 7, 8}));
  EXPECT_TRUE(map.is_masked());
  EXPECT_FALSE(map.layout().is_padded());
}

// A map of 3 x 2 in windows of 2 x 2: the fourth row is padding.
TEST(WindowMap, PadsAtTheBottomAndRight) {
  const WindowMap map(WindowLayout::fit({3, 2}, 2, false), Device::cpu());
  EXPECT_EQ(values_of(map.positions()), (std::vector<double>{0, 1, 2, 3, 4, 5, -1, -1}));
  EXPECT_EQ(values_of(map.regions()), (std::vector<double>{0, 0, 0, 0, 0, 0, kPaddedRegion, kPaddedRegion}));
  EXPECT_FALSE(map.is_masked());
  EXPECT_TRUE(map.layout().is_padded());
}

TEST(WindowMap, HoldsEveryPositionOnceForAllLayouts) {
  for (const Extent extent : {Extent{1, 1}, Extent{5, 9}, Extent{12, 12}, Extent{13, 7}, Extent{16, 24}}) {
    for (const std::int64_t window : {1, 2, 3, 4, 7, 8, 12}) {
      for (const bool shifted : {false, true}) {
        const WindowLayout layout = WindowLayout::fit(extent, window, shifted);
        const WindowMap map(layout, Device::cpu());
        std::vector<double> positions = values_of(map.positions());
        const std::vector<double> regions = values_of(map.regions());
        for (std::size_t slot = 0; slot < positions.size(); ++slot) {
          EXPECT_EQ(positions[slot] < 0.0, regions[slot] == kPaddedRegion);
        }
        // No window is all padding: its queries would have no key.
        for (auto begin = regions.begin(); begin != regions.end(); begin += layout.window_size()) {
          EXPECT_NE(*std::min_element(begin, begin + layout.window_size()), kPaddedRegion);
        }
        std::erase_if(positions, [](double position) { return position < 0.0; });
        std::sort(positions.begin(), positions.end());
        ASSERT_EQ(std::ssize(positions), extent.area());
        for (std::size_t i = 0; i < positions.size(); ++i) EXPECT_EQ(positions[i], static_cast<double>(i));
      }
    }
  }
}

TEST(WindowMap, SaysWhatIsWrong) {
  const auto text = [](const WindowLayout& layout) {
    return error_text([&] { const WindowMap map(layout, Device::cpu()); });
  };
  EXPECT_EQ(text({{4, 0}, {2, 2}, {0, 0}}),
            "WindowMap: a map of 4 x 0 in windows of 2 x 2; extents are 1 or more");
  EXPECT_EQ(text({{4, 4}, {2, 2}, {2, 0}}), "WindowMap: a shift of 2 x 0 is not below the window's 2 x 2");
}

}  // namespace
}  // namespace flex::testing
