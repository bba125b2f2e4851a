#include "kernels/nn/patches.h"

#include <numeric>

#include "kernels/nn/pooling.h"
#include "tests/kernels/nn/parity.h"

namespace flex::testing {
namespace {

class Patches : public KernelTest {};
class MergePatches : public KernelTest {};
class MeanPool : public KernelTest {};
class PatchesParity : public Parity {};

std::vector<double> counted(std::int64_t count) {
  std::vector<double> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0.0);
  return values;
}

// One image of 2 channels, 2 x 4 pixels: two patches of 2 x 2, the first channel's rows before the second's.
TEST_P(Patches, MatchHandWorkedExample) {
  const Tensor images = gate_real({1, 2, 2, 4}, counted(16));
  Tensor rows = real_output({2, 8});
  patch_rows({.images = images, .patch = 2, .rows = rows}, stream());
  wait();
  EXPECT_EQ(values_of(rows), (std::vector<double>{0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15}));
  Tensor dimages = gate_output({1, 2, 2, 4});
  patch_rows_backward({.drows = rows, .patch = 2, .dimages = dimages}, stream());
  wait();
  EXPECT_EQ(values_of(dimages), counted(16));
}

TEST_P(Patches, SaysWhatIsWrong) {
  const Tensor images = gate_real({1, 2, 2, 4}, counted(16));
  Tensor rows = real_output({2, 8});
  EXPECT_EQ(error_text([&] { patch_rows({.images = images, .patch = 4, .rows = rows}, stream()); }),
            "patch_rows: patches of 4 x 4 do not divide images of 2 x 4");
  EXPECT_EQ(error_text([&] { patch_rows({.images = images, .patch = 1, .rows = rows}, stream()); }),
            "patch_rows: rows is (2, 8), expected (8, 2)");
  EXPECT_EQ(error_text([&] {
              patch_rows({.images = images.view().reshaped({4, 4}), .patch = 2, .rows = rows}, stream());
            }),
            "patch_rows: images is (4, 4), expected (images, channels, rows, columns)");
}

// A map of 3 x 2 of one channel: the second merged row's lower half is outside.
TEST_P(MergePatches, MatchHandWorkedExample) {
  const Tensor x = real({6, 1}, {1, 2, 3, 4, 5, 6});
  Tensor rows = real_output({2, 4});
  merge_patches({.map = {3, 2}, .x = x, .rows = rows}, stream());
  wait();
  EXPECT_EQ(values_of(rows), (std::vector<double>{1, 3, 2, 4, 5, 0, 6, 0}));
  Tensor dx = real_output({6, 1});
  merge_patches_backward({.map = {3, 2}, .drows = rows, .dx = dx}, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{1, 2, 3, 4, 5, 6}));
}

TEST_P(MergePatches, SayWhatIsWrong) {
  const Tensor x = real({6, 1}, {1, 2, 3, 4, 5, 6});
  Tensor rows = real_output({2, 4});
  EXPECT_EQ(error_text([&] {
              merge_patches({.map = {4, 2}, .x = x, .rows = rows}, stream());
            }),
            "merge_patches: x has 6 rows, not a multiple of the map's 8");
  EXPECT_EQ(error_text([&] {
              merge_patches({.map = {0, 2}, .x = x, .rows = rows}, stream());
            }),
            "merge_patches: a map of 0 x 2; extents are 1 or more");
  EXPECT_EQ(error_text([&] {
              merge_patches({.map = {1, 1}, .x = x, .rows = rows}, stream());
            }),
            "merge_patches: rows is (2, 4), expected (6, 4)");
}

TEST_P(MeanPool, MatchesHandWorkedExample) {
  const Tensor x = real({4, 2}, {1, 2, 3, 4, 10, 20, 30, 60});
  Tensor y = real_output({2, 2});
  mean_pool({.x = x, .y = y}, stream());
  wait();
  EXPECT_EQ(values_of(y), (std::vector<double>{2, 3, 20, 40}));
  Tensor dx = real_output({4, 2});
  mean_pool_backward({.dy = y, .dx = dx}, stream());
  wait();
  EXPECT_EQ(values_of(dx), (std::vector<double>{1, 1.5, 1, 1.5, 10, 20, 10, 20}));
}

TEST_P(MeanPool, SaysWhatIsWrong) {
  const Tensor x = real({4, 2}, {1, 2, 3, 4, 10, 20, 30, 60});
  Tensor y = real_output({3, 2});
  EXPECT_EQ(error_text([&] { mean_pool({.x = x, .y = y}, stream()); }),
            "mean_pool: 4 rows are not as many positions for each of 3 images");
}

struct MapSizes {
  std::int64_t images;
  Extent map;
  std::int64_t channels;
};
const std::vector<MapSizes> kMaps = {
    {1, {1, 1}, 1}, {0, {4, 4}, 8}, {2, {4, 6}, 3}, {3, {7, 5}, 40}, {2, {12, 12}, 128}};

TEST_P(PatchesParity, MatchTheTwin) {
  for (const MapSizes& s : kMaps) {
    const std::int64_t area = s.map.area();
    expect_parity_of(to_string(Shape{s.images, s.map.rows, s.map.columns, s.channels}), [&](Side& side) {
      const Extent merged = merged_map(s.map);
      const Tensor x = side.real({s.images * area, s.channels}, exact(s.images * area * s.channels, 1));
      const Tensor drows = side.real({s.images * merged.area(), 4 * s.channels},
                                     exact(s.images * merged.area() * 4 * s.channels, 2));
      const Tensor images = side.gate({s.images, s.channels, 4 * s.map.rows, 4 * s.map.columns},
                                      exact(s.images * s.channels * 16 * area, 3));
      Tensor rows = side.real_output({s.images * merged.area(), 4 * s.channels});
      Tensor dx = side.real_output({s.images * area, s.channels});
      Tensor patches = side.real_output({s.images * area, s.channels * 16});
      Tensor dimages = side.gate_output(images.shape());
      const Tensor dpooled = side.real({s.images, s.channels}, exact(s.images * s.channels, 4));
      Tensor pooled = side.real_output({s.images, s.channels});
      Tensor spread = side.real_output({s.images * area, s.channels});
      merge_patches({.map = s.map, .x = x, .rows = rows}, side.stream());
      merge_patches_backward({.map = s.map, .drows = drows, .dx = dx}, side.stream());
      patch_rows({.images = images, .rows = patches}, side.stream());
      patch_rows_backward({.drows = patches, .dimages = dimages}, side.stream());
      mean_pool({.x = x, .y = pooled}, side.stream());
      mean_pool_backward({.dy = dpooled, .dx = spread}, side.stream());
      side.stream().synchronize_blocking();
      return Outputs{{"merged rows", values_of(rows), 0.0},
                     {"dx of merged rows", values_of(dx), 0.0},
                     {"patches", values_of(patches), 0.0},
                     {"dimages", values_of(dimages), 0.0},
                     {"pooled", values_of(pooled), product_tolerance(dtype(), area)},
                     {"spread", values_of(spread), 2.0 * unit_roundoff(dtype())}};
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Patches, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, MergePatches, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, MeanPool, ::testing::ValuesIn(all_backends()), backend_name);
INSTANTIATE_TEST_SUITE_P(Backends, PatchesParity, ::testing::ValuesIn(compared_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
