#include "models/data/rand_augment.h"

#include <gmock/gmock.h>

#include <set>

namespace flex {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

const WarpSettings kWarp = {Interpolation::kBilinear, {7, 7, 7}};

// Values 10, 20, ... in rows, all channels alike.
RgbImage counting(std::int64_t height, std::int64_t width) {
  RgbImage image{height, width, {}};
  for (std::int64_t i = 1; i <= height * width; ++i)
    image.pixels.insert(image.pixels.end(), 3, static_cast<std::uint8_t>(10 * i));
  return image;
}

std::vector<int> reds(const RgbImage& image) {
  std::vector<int> values;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) values.push_back(image.pixels[i]);
  return values;
}

std::vector<int> after(AugmentOp op, double strength, bool negated, RgbImage image) {
  RgbImage scratch;
  apply_augment_op(op, strength, negated, kWarp, image, scratch);
  return reds(image);
}

// 20 columns at full strength: 9 of them. A half of it is 4.5.
TEST(RandAugment, TranslatesByShares) {
  const std::vector<int> moved = after(AugmentOp::kTranslateX, 1, false, counting(1, 20));
  EXPECT_EQ(moved[0], 100);
  EXPECT_EQ(moved[10], 200);
  EXPECT_EQ(moved[11], 7);
  const std::vector<int> back = after(AugmentOp::kTranslateX, 1, true, counting(1, 20));
  EXPECT_EQ(back[8], 7);
  EXPECT_EQ(back[9], 10);
  EXPECT_EQ(after(AugmentOp::kTranslateY, 1, false, counting(20, 1))[0], 100);
}

// A spot 10 pixels to the right of the middle of 41 x 41, at (20, 20), goes to (10 cos 30, +-10 sin 30) =
// (8.7, +-5) from there.
TEST(RandAugment, RotatesAboutTheMiddle) {
  RgbImage image{41, 41, std::vector<std::uint8_t>(41 * 41 * 3, 0)};
  for (std::size_t row = 19; row <= 21; ++row) {
    for (std::size_t i = 3 * (row * 41 + 29); i < 3 * (row * 41 + 32); ++i) image.pixels[i] = 200;
  }
  const std::vector<int> turned = after(AugmentOp::kRotate, 1, false, image);
  EXPECT_EQ(turned[25 * 41 + 29], 200);
  EXPECT_EQ(turned[20 * 41 + 30], 0);
  EXPECT_EQ(turned[0], 7) << "a corner comes from outside";
  EXPECT_EQ(after(AugmentOp::kRotate, 1, true, image)[15 * 41 + 29], 200);
  EXPECT_EQ(after(AugmentOp::kRotate, 0, false, image), reds(image));
}

// Row r moves by 0.3 r columns: row 10 by 3.
TEST(RandAugment, ShearsInProportion) {
  RgbImage image{11, 8, std::vector<std::uint8_t>(11 * 8 * 3, 0)};
  for (std::size_t i = 0; i < 3; ++i) image.pixels[3 * (10 * 8 + 5) + i] = 200;
  EXPECT_EQ(after(AugmentOp::kShearX, 1, false, image)[10 * 8 + 2], 200);
  EXPECT_EQ(after(AugmentOp::kShearX, 1, true, image)[10 * 8 + 5], 0);
}

TEST(RandAugment, ChangesOfColourGrowWithTheMagnitude) {
  const RgbImage image = counting(1, 3);
  EXPECT_THAT(after(AugmentOp::kBrightness, 1, false, image), ElementsAre(19, 38, 57));
  EXPECT_THAT(after(AugmentOp::kBrightness, 1, true, image), ElementsAre(1, 2, 3));
  EXPECT_THAT(after(AugmentOp::kPosterize, 0.5, false, image), ElementsAre(0, 0, 0));  // two bits
  EXPECT_THAT(after(AugmentOp::kPosterize, 0, false, image), ElementsAre(0, 16, 16));  // four bits
  EXPECT_THAT(after(AugmentOp::kPosterize, 1, false, image), Each(0));
  EXPECT_THAT(after(AugmentOp::kSolarize, 0, false, image), ElementsAre(10, 20, 30));
  EXPECT_THAT(after(AugmentOp::kSolarize, 1, false, image), ElementsAre(245, 235, 225));
  EXPECT_THAT(after(AugmentOp::kSolarizeAdd, 0.9, false, image), ElementsAre(109, 119, 129));
  EXPECT_THAT(after(AugmentOp::kInvert, 0, false, image), ElementsAre(245, 235, 225));
  EXPECT_THAT(after(AugmentOp::kStretchContrast, 0, false, image), ElementsAre(0, 128, 255));
}

TEST(RandAugment, IsAFunctionOfItsRandomNumbers) {
  const RandAugment policy{.num_ops = 2};
  std::set<std::vector<int>> results;
  int num_untouched = 0;
  for (std::uint64_t stream = 0; stream < 200; ++stream) {
    RgbImage image = counting(5, 5);
    RgbImage again = image;
    const RgbImage before = image;
    RgbImage scratch;
    PhiloxStream random(1, stream);
    PhiloxStream same(1, stream);
    rand_augment(policy, kWarp, random, image, scratch);
    rand_augment(policy, kWarp, same, again, scratch);
    EXPECT_EQ(reds(image), reds(again));
    results.insert(reds(image));
    if (reds(image) == reds(before)) ++num_untouched;
  }
  EXPECT_GT(results.size(), 50U);
  // Neither of two changes with probability 1/4; some leave this image as it is.
  EXPECT_GT(num_untouched, 30);
  EXPECT_LT(num_untouched, 100);
}

TEST(RandAugment, OfNoOpsDoesNothing) {
  RgbImage image = counting(2, 2);
  RgbImage scratch;
  PhiloxStream random(1);
  rand_augment({.num_ops = 0}, kWarp, random, image, scratch);
  EXPECT_EQ(reds(image), reds(counting(2, 2)));
  EXPECT_EQ(random.next_u64(), PhiloxStream(1).next_u64());
}

}  // namespace
}  // namespace flex
