#include "models/classify_images.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/base/temporary_directory.h"
#include "tests/models/data/image_files.h"
#include "tests/models/training_runs.h"

/// Image files that a model classifies.
namespace flex::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
namespace fs = std::filesystem;

std::vector<ScoredClass> most_probable_of(std::vector<float> logits, std::int64_t most) {
  const auto count = static_cast<std::int64_t>(logits.size());
  return most_probable(ConstTensorView(logits.data(), DType::kF32, {count}), most);
}

// exp(ln 3), 1 and exp(ln 4): 3/8, 1/8 and 4/8.
TEST(MostProbable, IsASoftmaxInOrder) {
  const auto classes = most_probable_of({std::log(3.0F), 0, std::log(4.0F)}, 2);
  ASSERT_THAT(classes, SizeIs(2));
  EXPECT_EQ(classes[0].label, 2);
  EXPECT_NEAR(classes[0].probability, 0.5, 1e-7);
  EXPECT_EQ(classes[1].label, 0);
  EXPECT_NEAR(classes[1].probability, 0.375, 1e-7);
}

TEST(MostProbable, PutsTheLowerOfEqualClassesFirst) {
  const auto classes = most_probable_of({1, 2, 1, 2}, 9);
  ASSERT_THAT(classes, SizeIs(4));
  EXPECT_EQ(classes[0].label, 1);
  EXPECT_EQ(classes[1].label, 3);
  EXPECT_EQ(classes[2].label, 0);
  EXPECT_EQ(classes[3].label, 2);
}

TEST(MostProbable, TakesLogitsOfAnySize) {
  EXPECT_EQ(most_probable_of({1e30F, -1e30F}, 1)[0].probability, 1);
  EXPECT_TRUE(std::isnan(most_probable_of({0, std::numeric_limits<float>::quiet_NaN()}, 1)[0].probability));
}

class ClassifyFiles : public ::testing::Test {
 protected:
  // Seven images, the third is text and the sixth is not there.
  ClassifyFiles() {
    for (int i = 0; i < 7; ++i) {
      files_.push_back(directory_ / (std::to_string(i) + (i % 2 == 0 ? ".png" : ".jpg")));
      const RgbImage image = textured_image(70 + i, 90, static_cast<std::uint64_t>(i));
      if (i != 5) write_bytes(files_.back(), i % 2 == 0 ? encode_png(image) : encode_jpeg(image, 95));
    }
    write_bytes(files_[2], "no image");
  }

  // On so many ranks, in batches of `batch` images of all of them.
  [[nodiscard]] std::vector<ClassifiedImage> classify(int world, std::int64_t batch,
                                                      const EvaluationProgress& progress = {}) const {
    std::vector<ClassifiedImage> images;
    run_ranks({world, world}, std::chrono::seconds(60), [&](Communicator& communicator) {
      RankContext context(communicator, Device::cpu());
      TrainingConfig training = micro_training(DType::kF32, 1);
      training.batch_size = batch;
      ImageClassifier classifier(model_of(micro_model("swinv2", 2)), training, {}, context);
      open_branches(classifier.model());
      auto all = classify_files_blocking(classifier, files_, AugmentConfig::none(), 2, context, progress);
      if (communicator.rank() == 0) images = std::move(all);
    });
    return images;
  }

  TemporaryDirectory directory_;
  std::vector<fs::path> files_;
};

TEST_F(ClassifyFiles, SkipsWhatCannotBeRead) {
  const std::vector<ClassifiedImage> images = classify(1, 3);
  ASSERT_THAT(images, SizeIs(7));
  for (std::size_t i = 0; i < images.size(); ++i) {
    EXPECT_EQ(images[i].path, files_[i]);
    if (i == 2 || i == 5) {
      EXPECT_THAT(images[i].error, HasSubstr(files_[i].string()));
      EXPECT_THAT(images[i].classes, IsEmpty());
      continue;
    }
    EXPECT_THAT(images[i].error, IsEmpty());
    ASSERT_THAT(images[i].classes, SizeIs(2));
    EXPECT_GE(images[i].classes[0].probability, images[i].classes[1].probability);
    EXPECT_GT(images[i].classes[0].probability, 0.2);  // the most probable of five
  }
}

TEST_F(ClassifyFiles, DependsNeitherOnRanksNorOnBatches) {
  const std::vector<ClassifiedImage> expected = classify(1, 1);
  for (const auto& [world, batch] : {std::pair{1, 8}, {2, 2}, {2, 8}, {4, 4}}) {
    const std::vector<ClassifiedImage> images = classify(world, batch);
    ASSERT_EQ(images.size(), expected.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      EXPECT_EQ(images[i].error, expected[i].error);
      ASSERT_EQ(images[i].classes.size(), expected[i].classes.size());
      for (std::size_t c = 0; c < images[i].classes.size(); ++c) {
        EXPECT_EQ(images[i].classes[c].label, expected[i].classes[c].label);
        EXPECT_NEAR(images[i].classes[c].probability, expected[i].classes[c].probability, 1e-5);
      }
    }
  }
}

TEST_F(ClassifyFiles, EndsEarlyWithWhatIsDone) {
  const auto images = classify(2, 4, [](std::int64_t done, std::int64_t total) {
    EXPECT_EQ(total, 7);
    return done > 4;
  });
  EXPECT_THAT(images, SizeIs(4));
}

}  // namespace
}  // namespace flex::testing
