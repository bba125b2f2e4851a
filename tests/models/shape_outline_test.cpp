#include "models/data/shape_outline.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "models/data/shape_catalog.h"

namespace flex {
namespace {

// A square of half side 0.5 with a round hole of radius 0.25, and one stroke below it.
ShapeOutline worked_outline() {
  const ConvexPart square{{{1, 0, 0.5F}, {-1, 0, 0.5F}, {0, 1, 0.5F}, {0, -1, 0.5F}}};
  return {.name = "worked",
          .parts = {{.form = square},
                    {.form = EllipsePart{{}, 0.25F, 0.25F}, .is_hole = true},
                    {.form = StrokePart{{-1, 2}, {1, 2}, 0.2F}}}};
}

std::vector<float> distances(const ShapeOutline& outline, const ShapeRow& row, std::size_t count) {
  std::vector<float> out(count, -99);
  std::vector<float> scratch(count);
  outline_distances(outline, row, out, scratch);
  return out;
}

TEST(ShapeOutline, DistancesWorkedByHand) {
  // u = -1, -0.5, ... 1 through the middle: outside, side, rim of the hole + 0.25, centre of the hole.
  const std::vector<float> middle = distances(worked_outline(), {{-1, 0}, {0.25F, 0}}, 9);
  EXPECT_FLOAT_EQ(middle[0], 0.5F);
  EXPECT_FLOAT_EQ(middle[2], 0);
  EXPECT_FLOAT_EQ(middle[3], 0);       // the hole's rim
  EXPECT_FLOAT_EQ(middle[4], 0.125F);  // in the hole: first order, (1 - 0) * radius / 2
  EXPECT_FLOAT_EQ(middle[6], 0);
  EXPECT_FLOAT_EQ(middle[8], 0.5F);
  // Down at u = 0.4: the hole is too far to count, so the nearest side is 0.1 away.
  const std::vector<float> down = distances(worked_outline(), {{0.4F, 0}, {0, 0.5F}}, 5);
  EXPECT_FLOAT_EQ(down[0], -0.1F);
  EXPECT_FLOAT_EQ(down[1], 0);
  EXPECT_FLOAT_EQ(down[4], -0.1F);  // on the stroke's line: (0 - w^2) / (2 w)
}

TEST(ShapeOutline, EveryShapeIsOneWithinReachAndCoversAFairPart) {
  constexpr int kSide = 120;
  for (const ShapeOutline& shape : shape_catalog(60)) {
    int inside = 0;
    for (int row = 0; row < kSide; ++row) {
      const float v = 3.0F * static_cast<float>(row) / kSide - 1.5F;
      const std::vector<float> line = distances(shape, {{-1.5F, v}, {3.0F / kSide, 0}}, kSide);
      for (int column = 0; column < kSide; ++column) {
        inside += line[static_cast<std::size_t>(column)] < 0 ? 1 : 0;
        if (row == 0 || column == 0 || column == kSide - 1) {
          EXPECT_GT(line[static_cast<std::size_t>(column)], 0) << shape.name << " leaves its room";
        }
      }
    }
    const double area = inside * 9.0 / (kSide * kSide);
    EXPECT_GT(area, 0.5) << shape.name;
    EXPECT_LT(area, 3.2) << shape.name;
  }
}

// A star is one piece: its middle polygon and its tips leave no seam.
TEST(ShapeOutline, StarsHaveNoSeams) {
  for (const ShapeOutline& shape : shape_catalog(num_named_shapes())) {
    if (!shape.name.starts_with("star")) continue;
    const std::vector<float> up = distances(shape, {{0, 0}, {0, -0.01F}}, 95);
    for (std::size_t i = 0; i < up.size(); ++i)
      EXPECT_LT(up[i], -0.005F) << shape.name << " at " << static_cast<float>(i) / 100;
  }
}

TEST(ShapeCatalog, NamesAreDistinctAndFewShapesAreSpreadOverTheKinds) {
  std::set<std::string> names;
  for (const ShapeOutline& shape : shape_catalog(500)) names.insert(shape.name);
  EXPECT_EQ(names.size(), 500U);
  EXPECT_TRUE(names.contains("star5"));
  EXPECT_TRUE(names.contains("glyph1"));
  const std::vector<ShapeOutline> few = shape_catalog(4);
  ASSERT_EQ(num_named_shapes(), 24);  // every sixth of these
  EXPECT_EQ(few[0].name, "triangle");
  EXPECT_EQ(few[1].name, "star6");
  EXPECT_EQ(few[2].name, "ring");
  EXPECT_EQ(few[3].name, "E");
}

}  // namespace
}  // namespace flex
