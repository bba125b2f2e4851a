#include "models/training_meter.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "profiler/mark_source.h"
#include "tests/models/training_runs.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

using ::testing::HasSubstr;

std::string text_of(const std::vector<const char*>& plans) {
  std::vector<PlanPair> pairs;
  for (const char* plan : plans) pairs.push_back(parse_plan_pair(plan));
  return short_text(pairs);
}

TEST(ShortText, NamesTheMostFrequentPlans) {
  EXPECT_EQ(text_of({}), "");
  EXPECT_EQ(text_of({"r1 d2 2dh", "r1 d2 2dh"}), "r1 d2 2dh");
  EXPECT_EQ(text_of({"r0 d1 linear", "r1 d2 2dh", "r1 d2 2dh"}), "r1 d2 2dh, 1 other");
  EXPECT_EQ(text_of({"r1 d2 2dh / r1 d1 linear", "r1 d2 2dh", "r0 d1 linear", "r0 d1 linear"}),
            "r0 d1 linear, 2 others");
  EXPECT_EQ(text_of({"r1 d1 linear", "r0 d1 linear"}), "r0 d1 linear, 1 other");  // as frequent: the least
}

TEST(ProgressText, SaysWhatIsKnown) {
  StepMetrics metrics{.step = 3, .loss = 1.23456};
  EXPECT_EQ(progress_text(metrics), "loss 1.2346");
  metrics.images_per_s = 812.4;
  metrics.moe_share = 0.434;
  metrics.plans = "r1 d2 2dh, 1 other";
  EXPECT_EQ(progress_text(metrics), "loss 1.2346, 812 images/s, MoE 43%, r1 d2 2dh, 1 other");
  metrics.images_per_s = 9.66;
  EXPECT_THAT(progress_text(metrics), HasSubstr(", 9.7 images/s, "));
}

template <class Body>
void with_trainer(const ModelConfig& model, const Body& body) {
  run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(model, micro_training(DType::kF32, 10), {}, context);
    ProceduralImages images(model, DType::kF32, trainer.local_batch(), 11);
    body(trainer, images.make(world.rank() * trainer.local_batch()));
  });
}

// Samples are the second, fifth and eighth step; a sample shows in the next reading alone.
TEST(TrainingMeter, SamplesTheShareOfTheMoeLayers) {
  with_trainer(model_of(micro_model("swinv2", 2)), [](Trainer& trainer, const ImageBatch& batch) {
    TrainingMeter meter(trainer, Device::cpu(), 3);
    std::optional<double> latest;
    for (std::int64_t step = 1; step <= 8; ++step) {
      const StepResult result = meter.step_blocking(batch);
      const StepMetrics metrics = meter.read(100 + step, 7);
      EXPECT_EQ(metrics.moe_share.has_value(), step % 3 == 2) << step;
      if (metrics.moe_share) {
        EXPECT_GT(*metrics.moe_share, 0);
        EXPECT_LT(*metrics.moe_share, 1);
      }
      if (metrics.moe_share) latest = metrics.moe_share;
      EXPECT_EQ(meter.latest_moe_share(), latest);
      EXPECT_EQ(metrics.step, 100 + step);
      EXPECT_EQ(metrics.epoch, 7);
      EXPECT_EQ(metrics.loss, result.loss);
      EXPECT_EQ(metrics.gradient_norm, result.gradient_norm);
      EXPECT_EQ(metrics.learning_rate, result.learning_rate);
      EXPECT_EQ(metrics.plans, "r1 d1 linear");
    }
  });
}

// The share is that of the operations which a clock around a whole step tells of.
TEST(TrainingMeter, TheShareIsOfTheOperationsOfTheMoeLayers) {
  with_trainer(model_of(micro_model("swinv2", 2)), [](Trainer& trainer, const ImageBatch& batch) {
    TrainingMeter meter(trainer, Device::cpu(), 1);
    static_cast<void>(meter.step_blocking(batch));
    static_cast<void>(meter.step_blocking(batch));
    const double share = meter.read(2, 0).moe_share.value();
    OperationClock clock(Device::cpu());
    clock.start_blocking(trainer.stream());
    trainer.set_clock(&clock);
    static_cast<void>(trainer.step_blocking(batch));
    trainer.set_clock(nullptr);
    double moe_us = 0;
    double all_us = 0;
    for (const OperationShare& operation : clock.shares()) {
      all_us += operation.total_us;
      if (operation.name.starts_with("moe_layer")) moe_us += operation.total_us;
    }
    // Two steps on a busy machine: of one order of magnitude.
    EXPECT_GT(share, 0.1 * moe_us / all_us);
    EXPECT_LT(share, 10 * moe_us / all_us);
  });
}

TEST(TrainingMeter, ADenseModelHasNoShareAndNoPlans) {
  ModelConfig model = model_of(micro_model("swinv2", 2));
  model.moe.blocks.clear();
  with_trainer(model, [](Trainer& trainer, const ImageBatch& batch) {
    TrainingMeter meter(trainer, Device::cpu(), 1);
    for (int i = 0; i < 3; ++i) static_cast<void>(meter.step_blocking(batch));
    const StepMetrics metrics = meter.read(3, 0);
    EXPECT_FALSE(metrics.moe_share);
    EXPECT_EQ(metrics.plans, "");
  });
}

// Waiting between steps, for data, counts; what is skipped does not.
TEST(TrainingMeter, CountsTheTimeBetweenStepsUnlessItIsSkipped) {
  with_trainer(model_of(micro_model("swinv2", 2)), [](Trainer& trainer, const ImageBatch& batch) {
    TrainingMeter meter(trainer, Device::cpu(), 0);
    static_cast<void>(meter.step_blocking(batch));
    static_cast<void>(meter.read(1, 0));
    constexpr std::chrono::duration<double> kWait(0.3);
    const auto wait = [&] { std::this_thread::sleep_for(kWait); };
    wait();
    static_cast<void>(meter.step_blocking(batch));
    const StepMetrics waited = meter.read(2, 0);
    EXPECT_LT(waited.images_per_s, 8 / kWait.count());  // a batch of eight
    EXPECT_FALSE(waited.moe_share);
    wait();
    meter.skip_time();
    const std::int64_t begin_ns = steady_now_ns();
    static_cast<void>(meter.step_blocking(batch));
    const double most_s = static_cast<double>(steady_now_ns() - begin_ns) * 1e-9;
    EXPECT_GE(meter.read(3, 0).images_per_s, 8 / (most_s + 0.5 * kWait.count()));
    EXPECT_TRUE(std::isnan(meter.read(3, 0).images_per_s));  // no step since
  });
}

TEST(TrainingMeter, RefusesANegativeNumber) {
  with_trainer(model_of(micro_model("swinv2", 2)), [](Trainer& trainer, const ImageBatch&) {
    EXPECT_EQ(error_text([&] { TrainingMeter meter(trainer, Device::cpu(), -1); }),
              "TrainingMeter: a sample every -1 steps; it is 0 or more");
  });
}

}  // namespace
}  // namespace flex::testing
