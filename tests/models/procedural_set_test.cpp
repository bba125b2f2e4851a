#include "models/data/procedural_set.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace flex {
namespace {

using Pixels = std::vector<std::uint8_t>;

Pixels pixels_of(const ProceduralSet& set, std::int64_t index) {
  RgbImage image;
  set.read(index, 0, image);
  EXPECT_EQ(image.height, set.options().image_size);
  EXPECT_EQ(image.width, set.options().image_size);
  EXPECT_EQ(static_cast<std::int64_t>(image.pixels.size()), image.height * image.width * 3);
  return image.pixels;
}

// What a std::set can hold.
std::string bytes_of(const Pixels& pixels) { return {pixels.begin(), pixels.end()}; }

TEST(ProceduralSet, AnImageIsAFunctionOfSeedSplitAndItsNumber) {
  const ProceduralSet set({.seed = 5, .split = 1});
  const ProceduralSet again({.num_images = 50, .seed = 5, .split = 1});
  for (const std::int64_t index : {0, 7, 49}) {
    EXPECT_EQ(pixels_of(set, index), pixels_of(again, index));
    EXPECT_EQ(set.label(index), again.label(index));
    EXPECT_NE(pixels_of(set, index), pixels_of(ProceduralSet({.seed = 6, .split = 1}), index));
    EXPECT_NE(pixels_of(set, index), pixels_of(ProceduralSet({.seed = 5, .split = 0}), index));
  }
}

TEST(ProceduralSet, ThreadsSeeTheSameImages) {
  constexpr std::int64_t kImages = 60;
  constexpr int kThreads = 4;
  const ProceduralSet set({.num_images = kImages, .image_size = 33});
  std::vector<Pixels> alone;
  for (std::int64_t i = 0; i < kImages; ++i) alone.push_back(pixels_of(set, i));
  std::array<std::vector<Pixels>, kThreads> together;
  std::vector<std::thread> threads;
  for (auto& mine : together) {
    threads.emplace_back([&set, &mine] {
      for (std::int64_t i = 0; i < kImages; ++i) mine.push_back(pixels_of(set, i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : together) EXPECT_EQ(mine, alone);
}

TEST(ProceduralSet, EveryRunOfImagesHasEachClassOnce) {
  for (const std::int64_t classes : {1, 10, 100, 128, 777}) {
    const ProceduralSet set({.num_images = 3 * classes, .num_classes = classes, .seed = 2});
    for (std::int64_t run = 0; run < 3; ++run) {
      std::set<std::int32_t> seen;
      for (std::int64_t i = 0; i < classes; ++i) seen.insert(set.label(run * classes + i));
      EXPECT_EQ(static_cast<std::int64_t>(seen.size()), classes);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), classes - 1);
    }
  }
}

TEST(ProceduralSet, NamesSayWhatIsToBeSeen) {
  for (const std::int64_t classes : {1, 10, 100, 128, 777}) {
    const ProceduralSet set({.num_classes = classes});
    const std::set<std::string> names(set.class_names().begin(), set.class_names().end());
    EXPECT_EQ(static_cast<std::int64_t>(names.size()), classes);
  }
  const ProceduralSet plain({.num_classes = 100});
  EXPECT_EQ(plain.class_names().at(0), "triangle plain");
  EXPECT_EQ(plain.class_names().at(1), "triangle striped");
  EXPECT_EQ(plain.shape_of(0), plain.shape_of(4));  // five textures of each of twenty shapes
  EXPECT_EQ(plain.shape_of(5), 1);
  EXPECT_EQ(plain.shape_of(99), 19);
  const ProceduralSet palettes({.num_classes = 128});
  EXPECT_EQ(palettes.class_names().at(0), "warm triangle plain");
  EXPECT_EQ(palettes.class_names().at(1), "cool triangle plain");
}

TEST(ProceduralSet, SplitsHaveNoImageInCommon) {
  constexpr std::int64_t kImages = 400;
  const ProceduralSet training({.num_images = kImages, .image_size = 16, .split = 0});
  const ProceduralSet validation({.num_images = kImages, .image_size = 16, .split = 1});
  std::set<std::string> images;
  for (std::int64_t i = 0; i < kImages; ++i) {
    images.insert(bytes_of(pixels_of(training, i)));
    images.insert(bytes_of(pixels_of(validation, i)));
  }
  EXPECT_EQ(images.size(), 2U * kImages);
  EXPECT_EQ(training.class_names(), validation.class_names());
}

TEST(ProceduralSet, WithoutNuisanceImagesOfAClassAreEqualAndClassesAreNot) {
  constexpr std::int64_t kClasses = 200;
  const ProceduralSet set({.num_images = 2 * kClasses, .num_classes = kClasses, .nuisance = 0});
  std::vector<Pixels> by_class(kClasses);
  for (std::int64_t i = 0; i < 2 * kClasses; ++i) {
    Pixels& known = by_class[static_cast<std::size_t>(set.label(i))];
    const Pixels drawn = pixels_of(set, i);
    if (!known.empty()) {
      EXPECT_EQ(known, drawn) << set.class_names()[static_cast<std::size_t>(set.label(i))];
    }
    known = drawn;
  }
  std::set<std::string> different;
  for (const Pixels& pixels : by_class) different.insert(bytes_of(pixels));
  EXPECT_EQ(different.size(), static_cast<std::size_t>(kClasses));
}

// What a picture is reduced to.
using Features = std::vector<double>;

Features raw_pixels(const Pixels& pixels) { return {pixels.begin(), pixels.end()}; }

Features mean_and_deviation(const Pixels& pixels) {
  Features sums(6);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    sums[i % 3] += pixels[i];
    sums[3 + i % 3] += static_cast<double>(pixels[i]) * pixels[i];
  }
  const double count = static_cast<double>(pixels.size()) / 3;
  for (double& sum : sums) sum /= count;
  for (std::size_t c = 0; c < 3; ++c) sums[3 + c] = std::sqrt(sums[3 + c] - sums[c] * sums[c]);
  return sums;
}

// Share of new images whose features are nearest to the mean of their class.
double nearest_mean_accuracy(double nuisance, Features (*features)(const Pixels&)) {
  constexpr std::int64_t kClasses = 50;
  constexpr std::int64_t kTraining = 20 * kClasses;
  constexpr std::int64_t kTest = 6 * kClasses;
  const ProceduralSet training(
      {.num_images = kTraining, .num_classes = kClasses, .image_size = 32, .nuisance = nuisance});
  const ProceduralSet test(
      {.num_images = kTest, .num_classes = kClasses, .image_size = 32, .split = 1, .nuisance = nuisance});
  std::vector<Features> means(kClasses);
  for (std::int64_t i = 0; i < kTraining; ++i) {
    const Features found = features(pixels_of(training, i));
    Features& mean = means[static_cast<std::size_t>(training.label(i))];
    mean.resize(found.size());
    for (std::size_t j = 0; j < found.size(); ++j) mean[j] += found[j] * kClasses / kTraining;
  }
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < kTest; ++i) {
    const Features found = features(pixels_of(test, i));
    double best = std::numeric_limits<double>::infinity();
    std::int64_t label = 0;
    for (std::int64_t c = 0; c < kClasses; ++c) {
      double square = 0;
      for (std::size_t j = 0; j < found.size(); ++j) {
        const double off = found[j] - means[static_cast<std::size_t>(c)][j];
        square += off * off;
      }
      if (square < best) {
        best = square;
        label = c;
      }
    }
    right += label == test.label(i) ? 1 : 0;
  }
  return static_cast<double>(right) / kTest;
}

// Chance is 2%.
TEST(ProceduralSet, NoTrivialStatisticTellsTheClass) {
  EXPECT_LT(nearest_mean_accuracy(1, raw_pixels), 0.15);
  EXPECT_LT(nearest_mean_accuracy(1, mean_and_deviation), 0.08);
  EXPECT_GT(nearest_mean_accuracy(0.02, raw_pixels), 0.9);
}

template <class Work>
std::string input_error_text(const Work& work) {
  try {
    work();
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing was refused";
}

std::string error_of(const ProceduralSetOptions& options) {
  return input_error_text([&] { const ProceduralSet set(options); });
}

TEST(ProceduralSet, RefusesWhatCannotBe) {
  EXPECT_EQ(error_of({.num_images = 0}), "procedural images: num_images is 0; it is at least 1");
  EXPECT_EQ(error_of({.num_classes = 10'001}), "procedural images: num_classes is 10001; it is 1 to 10000");
  EXPECT_EQ(error_of({.image_size = 15}), "procedural images: image_size is 15; it is at least 16");
  EXPECT_EQ(error_of({.nuisance = 1.5}), "procedural images: nuisance is 1.5; it is 0 to 1");
  const ProceduralSet set({.num_images = 4});
  RgbImage image;
  EXPECT_EQ(input_error_text([&] { set.read(4, 0, image); }), "procedural image 4; the set has 0 to 3");
  EXPECT_EQ(input_error_text([&] { static_cast<void>(set.label(-1)); }),
            "procedural image -1; the set has 0 to 3");
  EXPECT_EQ(set.where(3), "procedural image 3 of seed 0, split 0");
}

}  // namespace
}  // namespace flex
