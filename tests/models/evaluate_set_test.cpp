#include "models/evaluate_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "models/data/procedural_set.h"
#include "models/data/subset_set.h"
#include "models/few_shot_evaluation.h"
#include "models/image_classifier.h"
#include "tests/base/expect_error.h"
#include "tests/models/training_runs.h"

/// A model on a set of images, on several ranks.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t kNumImages = 13;

// Images of one grey, the index, of three classes in turns. Some cannot be read.
class GreySet final : public ImageSet {
 public:
  explicit GreySet(std::set<std::int64_t> corrupt = {}) : corrupt_(std::move(corrupt)) {}
  [[nodiscard]] std::int64_t num_images() const override { return kNumImages; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return class_names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override {
    return static_cast<std::int32_t>(index % 3);
  }
  [[nodiscard]] std::string where(std::int64_t index) const override {
    return "grey " + std::to_string(index);
  }
  void read(std::int64_t index, std::int64_t /*least_side*/, RgbImage& image) const override {
    if (corrupt_.contains(index)) throw InputError(where(index) + ": is corrupt");
    image = {4, 4, std::vector<std::uint8_t>(4 * 4 * 3, static_cast<std::uint8_t>(index))};
  }

 private:
  std::set<std::int64_t> corrupt_;
  std::vector<std::string> class_names_ = {"a", "b", "c"};
};

LoaderOptions grey_options(const RankContext& context, std::int64_t local_batch) {
  LoaderOptions options;
  options.mode = LoadMode::kEvaluation;
  options.local_batch = local_batch;
  options.rank = context.rank();
  options.world = context.size();
  options.image_size = 4;
  options.augment.central_share = 1;
  options.augment.normalization = {{0, 0, 0}, {1.0 / 255, 1.0 / 255, 1.0 / 255}};
  options.max_corrupt_fraction = 0.5;
  return options;
}

// Takes image i for class i % 3, but image 5, of class 2, for class 0, and images 4 and 7, of class 1, for 2.
class GreyModel {
 public:
  ConstTensorView operator()(ConstTensorView images) {
    *logits_ = Tensor::zeros(DType::kF32, {images.size(0), 3});
    for (std::int64_t row = 0; row < images.size(0); ++row) {
      const auto index = static_cast<std::int64_t>(std::lround(images.slice<float>(row)[0]));
      std::int64_t predicted = index % 3;
      if (index == 5) predicted = 0;
      if (index == 4 || index == 7) predicted = 2;
      logits_->as<float>()[row * 3 + predicted] = 1;
    }
    return *logits_;
  }

 private:
  std::shared_ptr<Tensor> logits_ = std::make_shared<Tensor>();  // functions are copied
};

class OnRanks : public ::testing::TestWithParam<int> {
 protected:
  template <class Body>
  static void run(const Body& body) {
    run_ranks({GetParam(), GetParam()}, std::chrono::seconds(60), [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      body(context);
    });
  }
};
INSTANTIATE_TEST_SUITE_P(World, OnRanks, ::testing::Values(1, 2, 4), ::testing::PrintToStringParamName());

// 13 images: 5 of class 0, 4 each of 1 and 2; three of them are mistaken. All logits are one-hot: a right one
// costs ln(e + 2) - 1, a wrong one ln(e + 2).
TEST_P(OnRanks, EvaluatesEachImageOnce) {
  run([](RankContext& context) {
    const ClassifierEvaluation evaluation =
        evaluate_set_blocking(GreyModel(), std::make_shared<GreySet>(), grey_options(context, 2), context);
    EXPECT_EQ(evaluation.num_samples(), kNumImages);
    EXPECT_EQ(evaluation.num_of_class(0), 5);
    EXPECT_EQ(evaluation.num_of_class(1), 4);
    EXPECT_EQ(evaluation.num_of_class(2), 4);
    EXPECT_DOUBLE_EQ(evaluation.top1(), 10 / 13.0);
    EXPECT_DOUBLE_EQ(evaluation.top5(), 1);
    EXPECT_THAT(evaluation.most_confused(5), ElementsAre(ConfusedPair{1, 2, 2}, ConfusedPair{2, 0, 1}));
    EXPECT_NEAR(evaluation.cross_entropy(), std::log(std::exp(1.0) + 2) - 10 / 13.0, 1e-6);
  });
}

// Image 5 was mistaken; 0 and 12 were right.
TEST_P(OnRanks, LeavesOutWhatCannotBeRead) {
  run([](RankContext& context) {
    const auto images = std::make_shared<GreySet>(std::set<std::int64_t>{0, 5, 12});
    const ClassifierEvaluation evaluation =
        evaluate_set_blocking(GreyModel(), images, grey_options(context, 2), context);
    EXPECT_EQ(evaluation.num_samples(), 10);
    EXPECT_EQ(evaluation.num_of_class(0), 3);
    EXPECT_DOUBLE_EQ(evaluation.top1(), 0.8);
  });
}

TEST_P(OnRanks, ShowsEachImageWithItsNumberAndLabel) {
  std::mutex mutex;
  std::multiset<std::int64_t> shown;
  run([&](RankContext& context) {
    const auto visit = [&](const InferredImage& image) {
      EXPECT_EQ(*image.label.as<std::int32_t>(), image.image % 3);
      EXPECT_EQ(image.logits.shape, (Shape{1, 3}));
      EXPECT_EQ(image.row, image.image % 3);
      const std::lock_guard lock(mutex);
      shown.insert(image.image);
    };
    EXPECT_TRUE(infer_set_blocking(GreyModel(), std::make_shared<GreySet>(), grey_options(context, 3),
                                   context, visit));
  });
  EXPECT_THAT(shown, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
}

// The last rank wants to stop after the second batch of `world`; all stop there.
TEST_P(OnRanks, EndEarlyTogether) {
  run([](RankContext& context) {
    const std::int64_t world = context.size();
    std::vector<std::int64_t> told;
    const auto progress = [&](std::int64_t done, std::int64_t total) {
      EXPECT_EQ(total, kNumImages);
      told.push_back(done);
      return context.rank() + 1 < world || done < 2 * world;
    };
    const ClassifierEvaluation evaluation = evaluate_set_blocking(
        GreyModel(), std::make_shared<GreySet>(), grey_options(context, 1), context, progress);
    EXPECT_THAT(told, ElementsAre(world, 2 * world));
    EXPECT_EQ(evaluation.num_samples(), 2 * world);
  });
}

TEST(EvaluateSet, EndsWhereTooManyImagesCannotBeRead) {
  const std::string text = message_of<InputError>([] {
    run_ranks({2, 2}, std::chrono::seconds(60), [](Communicator& world) {
      RankContext context(world, Device::cpu());
      LoaderOptions options = grey_options(context, 2);
      options.max_corrupt_fraction = 0;
      static_cast<void>(evaluate_set_blocking(
          GreyModel(), std::make_shared<GreySet>(std::set<std::int64_t>{6}), options, context));
    });
  });
  EXPECT_THAT(text, HasSubstr("1 of 13 images could not be read; at most 0 may be. The last: grey 6"));
}

TEST(SubsetSet, HasSomeImagesOfAnother) {
  const auto images = std::make_shared<GreySet>();
  const SubsetSet some(images, {7, 2, 2});
  EXPECT_EQ(some.num_images(), 3);
  EXPECT_EQ(some.label(0), 1);
  EXPECT_EQ(some.where(1), "grey 2");
  EXPECT_EQ(some.class_names(), images->class_names());
  RgbImage image;
  some.read(0, 0, image);
  EXPECT_EQ(image.pixels[0], 7);
  EXPECT_EQ(message_of<InputError>([&] { SubsetSet(images, {13}); }), "image 13 of a set of 13");
}

// ---- a model

constexpr std::int64_t kClasses = 5;

std::shared_ptr<const ImageSet> scenes(std::int64_t count, std::uint64_t split) {
  return std::make_shared<ProceduralSet>(
      ProceduralSetOptions{.num_images = count, .num_classes = kClasses, .image_size = 64, .split = split});
}

LoaderOptions scene_options(const RankContext& context, std::int64_t global_batch) {
  LoaderOptions options;
  options.mode = LoadMode::kEvaluation;
  options.local_batch = global_batch / context.size();
  options.rank = context.rank();
  options.world = context.size();
  options.image_size = 64;
  options.num_classes = kClasses;
  options.augment.central_share = 1;
  return options;
}

template <class Body>
void with_classifier(int world, std::int64_t batch, const Body& body) {
  run_ranks({world, world}, std::chrono::seconds(60), [&](Communicator& communicator) {
    RankContext context(communicator, Device::cpu());
    TrainingConfig training = micro_training(DType::kF32, 1);
    training.batch_size = batch;
    // Nothing is dropped, so that what is in a batch does not matter.
    ImageClassifier classifier(model_of(micro_model("swinv2", 4)), training, {}, context);
    open_branches(classifier.model());
    body(classifier, context);
  });
}

// On 1, 2 and 4 ranks, in batches that leave a rest of 5 or 1: the same counts.
TEST(EvaluateSet, CountsTheSameOnAnyRanks) {
  std::optional<nlohmann::ordered_json> expected;
  double cross_entropy = 0;
  for (const auto& ranks : {std::pair{1, 8}, {1, 4}, {2, 8}, {2, 4}, {4, 8}, {4, 4}}) {
    const std::int64_t batch = ranks.second;
    with_classifier(ranks.first, batch, [&](ImageClassifier& classifier, RankContext& context) {
      const ClassifierEvaluation evaluation =
          evaluate_set_blocking([&](ConstTensorView images) { return classifier.infer_blocking(images); },
                                scenes(kNumImages, 1), scene_options(context, batch), context);
      nlohmann::ordered_json json = to_json(evaluation);
      json.erase("cross_entropy");
      if (context.rank() != 0) return;
      if (!expected) {
        expected = json;
        cross_entropy = evaluation.cross_entropy();
        EXPECT_EQ(evaluation.num_samples(), kNumImages);
      }
      EXPECT_EQ(json, *expected);
      // Matrix products of other sizes round otherwise: fp32, tens of layers.
      EXPECT_NEAR(evaluation.cross_entropy(), cross_entropy, 1e-5);
    });
  }
}

// The same as a probe on a table of the features of all images.
TEST(FewShotEvaluation, AgreesWithAProbeOnAllFeatures) {
  constexpr FewShotOptions kShots{.shots = 2, .seed = 9};
  with_classifier(1, 4, [&](ImageClassifier& classifier, RankContext& context) {
    const LoaderOptions options = scene_options(context, 4);
    const auto table_of = [&](const std::shared_ptr<const ImageSet>& images) {
      FeatureTable table(classifier.model().config().dim(3));
      ConstTensorView features;
      infer_set_blocking(
          [&](ConstTensorView batch) {
            const ConstTensorView logits = classifier.infer_blocking(batch);
            features = classifier.features_blocking();
            return logits;
          },
          images, options, context,
          [&](const InferredImage& image) {
            const std::vector<std::int64_t> sample = {image.image};
            table.add(batch_row(features, image.row), image.label, sample);
          });
      return table;
    };
    const auto training = scenes(25, 0);
    const auto validation = scenes(kNumImages, 1);
    const double expected = few_shot_accuracy(table_of(training), table_of(validation), kClasses, kShots);
    const auto probe = fit_few_shot_probe_blocking(classifier, training, kShots, options, context);
    const ClassifierEvaluation evaluation =
        evaluate_set_blocking(probing(classifier, *probe), validation, options, context);
    EXPECT_EQ(evaluation.num_samples(), kNumImages);
    EXPECT_DOUBLE_EQ(evaluation.top1(), expected);
  });
}

// Only the images that are picked are read; every rank has the same probe.
TEST(FewShotEvaluation, ReadsTheShotsAlone) {
  std::vector<double> top1;
  for (const int world : {1, 2}) {
    with_classifier(world, 4, [&](ImageClassifier& classifier, RankContext& context) {
      const auto training = scenes(25, 0);
      std::vector<std::int64_t> seen;
      const auto probe =
          fit_few_shot_probe_blocking(classifier, training, {.shots = 1}, scene_options(context, 4), context,
                                      [&](std::int64_t done, std::int64_t total) {
                                        EXPECT_EQ(total, kClasses);
                                        seen.push_back(done);
                                        return true;
                                      });
      EXPECT_THAT(seen, ElementsAre(4, 5));
      const ClassifierEvaluation evaluation = evaluate_set_blocking(
          probing(classifier, *probe), scenes(kNumImages, 1), scene_options(context, 4), context);
      if (context.rank() == 0) top1.push_back(evaluation.top1());
    });
  }
  EXPECT_EQ(top1[0], top1[1]);
}

TEST(FewShotEvaluation, NamesAClassOfTooFewImages) {
  with_classifier(1, 4, [&](ImageClassifier& classifier, RankContext& context) {
    EXPECT_EQ(message_of<InputError>([&] {
                static_cast<void>(fit_few_shot_probe_blocking(classifier, scenes(7, 0), {.shots = 2},
                                                              scene_options(context, 4), context));
              }),
              "class 2 has 1 samples, fewer than the 2 shots");
  });
}

}  // namespace
}  // namespace flex::testing
