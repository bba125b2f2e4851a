#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "bench/effectiveness_images.h"
#include "bench/effectiveness_report.h"
#include "models/data/procedural_set.h"
#include "models/model_summary.h"

namespace flex::bench {
namespace {

// Image i has i in its top left corner, and one red column on its left edge.
class NumberedImages : public ImageSet {
 public:
  [[nodiscard]] std::int64_t num_images() const override { return 7; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return names_; }
  [[nodiscard]] std::int32_t label(std::int64_t index) const override {
    return static_cast<std::int32_t>(index);
  }
  [[nodiscard]] std::string where(std::int64_t /*index*/) const override { return "numbered"; }
  void read(std::int64_t index, std::int64_t /*least_side*/, RgbImage& image) const override {
    image = {.height = 8, .width = 8, .pixels = std::vector<std::uint8_t>(8 * 8 * 3, 0)};
    for (std::size_t y = 0; y < 8; ++y) image.pixels[y * 8 * 3] = 255;
    image.pixels[1] = static_cast<std::uint8_t>(index);
  }

 private:
  std::vector<std::string> names_ = std::vector<std::string>(7, "number");
};

std::vector<std::int32_t> labels_of(const ImageBatch& batch) {
  const auto* labels = batch.labels.as<std::int32_t>();
  return {labels, labels + batch.labels.num_elements()};
}

TEST(EffectivenessImages, AnEpochHasEachImageOnceInAnOrderOfTheSeed) {
  const RenderedImages images(NumberedImages(), 8, 3);
  TrainingBatches batches(images, 7, 1, Device::cpu());
  TrainingBatches again(images, 7, 1, Device::cpu());
  TrainingBatches other(images, 7, 2, Device::cpu());
  bool differs = false;
  bool reordered = false;
  std::vector<std::int32_t> before;
  for (int epoch = 0; epoch < 5; ++epoch) {
    const ImageBatch batch = batches.next();
    const std::vector<std::int32_t> labels = labels_of(batch);
    EXPECT_EQ(std::set<std::int32_t>(labels.begin(), labels.end()).size(), 7U);
    const ImageBatch equal = again.next();
    EXPECT_EQ(labels, labels_of(equal));
    EXPECT_TRUE(std::equal(batch.images.as<float>(), batch.images.as<float>() + batch.images.num_elements(),
                           equal.images.as<float>()));
    differs = differs || labels != labels_of(other.next());
    reordered = reordered || (epoch > 0 && labels != before);
    before = labels;
  }
  EXPECT_TRUE(differs);
  EXPECT_TRUE(reordered);
}

TEST(EffectivenessImages, MovesByWholePixelsAndRepeatsTheEdge) {
  const RenderedImages images(NumberedImages(), 8, 1);
  StagedBatch batch(1, 8, Device::cpu());
  const float black = -127.5F / 64;
  const float white = 127.5F / 64;
  stage_image(images, 5, 0, 0, 0, batch);
  EXPECT_EQ(batch.images.as<float>()[0], white);
  EXPECT_EQ(batch.images.as<float>()[1], black);
  EXPECT_EQ(batch.images.as<float>()[64], (5 - 127.5F) / 64);  // green
  EXPECT_EQ(batch.labels.as<std::int32_t>()[0], 5);
  stage_image(images, 5, 0, -2, -1, batch);  // to the right and down
  for (int x = 0; x < 3; ++x) EXPECT_EQ(batch.images.as<float>()[x], white) << x;
  EXPECT_EQ(batch.images.as<float>()[3], black);
  EXPECT_EQ(batch.images.as<float>()[64 + 8 + 2], (5 - 127.5F) / 64);
  stage_image(images, 5, 0, 1, 0, batch);  // to the left: the red column is gone
  for (int x = 0; x < 8; ++x) EXPECT_EQ(batch.images.as<float>()[x], black) << x;
}

TEST(EffectivenessStudy, ModelsHaveEqualComputeAndMoreParametersWithMoreExperts) {
  const StudySettings settings;
  const ModelSummary dense = summarize(study_model(settings, 0), {});
  std::int64_t before = dense.parameters();
  for (const std::int64_t experts : {2, 4, 8}) {
    const ModelConfig config = study_model(settings, experts);
    const ModelSummary moe = summarize(config, config.moe.training);
    EXPECT_EQ(moe.multiply_accumulates(), dense.multiply_accumulates());
    EXPECT_EQ(moe.active_parameters(), dense.active_parameters());
    EXPECT_GT(moe.parameters(), before);
    before = moe.parameters();
  }
}

// Two seeds. At f = 0.5 batch-prioritized routing is 0.1 better, and 0.2 worse, than token order.
StudyResult worked_result() {
  StudyResult result;
  result.settings.experts = {0, 2, 8};
  result.settings.num_seeds = 2;
  const auto add = [&](std::int64_t experts, std::uint64_t seed, double top1, double half, double ordered) {
    StudyRun run{.experts = experts, .seed = seed, .top1 = top1};
    if (experts > 0) {
      for (const double capacity : kStudyCapacities) {
        run.routed.push_back({{capacity, true}, capacity == 0.5 ? half : top1});
        run.routed.push_back({{capacity, false}, capacity == 0.5 ? ordered : top1});
      }
    }
    result.runs.push_back(run);
  };
  add(0, 1, 0.50, 0, 0);
  add(0, 2, 0.54, 0, 0);
  add(2, 1, 0.52, 0.4, 0.3);
  add(2, 2, 0.53, 0.4, 0.6);
  add(8, 1, 0.60, 0.5, 0.4);
  add(8, 2, 0.62, 0.5, 0.4);
  return result;
}

TEST(EffectivenessReport, OrderingsArePairedBySeed) {
  const std::vector<StudyOrdering> orderings = study_orderings(worked_result());
  ASSERT_EQ(orderings.size(), 5U);
  const auto expect = [&](std::size_t at, const char* text, double gain, std::int64_t showing) {
    EXPECT_EQ(orderings[at].text, text);
    EXPECT_NEAR(orderings[at].mean_gain, gain, 1e-9);
    EXPECT_EQ(orderings[at].num_showing, showing);
    EXPECT_EQ(orderings[at].num_pairs, 2);
    EXPECT_EQ(orderings[at].shows(), gain > 0);
  };
  expect(0, "E = 2 is above dense", 0.5, 1);
  expect(1, "E = 8 is above dense", 9, 2);
  expect(2, "E = 8 is above E = 2", 8.5, 2);
  expect(3, "E = 2, f = 0.5: batch-prioritized routing is above token order", -5, 1);
  expect(4, "E = 8, f = 0.5: batch-prioritized routing is above token order", 10, 2);
}

TEST(EffectivenessReport, TheTextHasEveryFigureAndSaysWhatDoesNotShow) {
  const std::string text = study_markdown(worked_result());
  EXPECT_NE(text.find("Embedding 16, 1-1-6-2 blocks, hidden 4 times model dim, cosine gate."),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("| 50.00, 54.00 | 52.00 ± 2.83 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| 60.00, 62.00 | 61.00 ± 1.41 | +9.00 |"), std::string::npos) << text;
  EXPECT_NE(text.find("| E = 2 | 0.5 | 40.00 ± 0.00 | 45.00 ± 21.21 | -5.00 |"), std::string::npos) << text;
  EXPECT_NE(text.find("token order: does **not** show; -5.00 points on average, 1 of 2 seeds."),
            std::string::npos)
      << text;
}

// All at once, as on a GPU: two models, their own streams, shared images.
TEST(EffectivenessStudy, RunsOfOneSeedAreRepeatable) {
  StudySettings settings;
  settings.device = "cpu";
  settings.dtype = DType::kF32;
  settings.experts = {0, 2};
  settings.num_seeds = 1;
  settings.embed_dim = 8;
  settings.depths = {1, 1, 2, 2};
  settings.steps = 3;
  settings.batch_size = 4;
  settings.num_classes = 5;
  settings.train_images = 32;
  settings.validation_images = 16;
  const StudyResult first = run_study_blocking(settings);
  const StudyResult second = run_study_blocking(settings);
  ASSERT_EQ(first.runs.size(), 2U);
  EXPECT_EQ(first.steps, 3);
  EXPECT_EQ(first.runs[1].routed.size(), 2 * std::size(kStudyCapacities));
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(first.runs[i].curve.size(), 3U);
    for (std::size_t at = 0; at < 3; ++at)
      EXPECT_EQ(first.runs[i].curve[at].cross_entropy, second.runs[i].curve[at].cross_entropy);
    EXPECT_EQ(first.runs[i].top1, second.runs[i].top1);
  }
  settings.validation_images = 15;
  EXPECT_THROW(static_cast<void>(run_study_blocking(settings)), InputError);
}

}  // namespace
}  // namespace flex::bench
