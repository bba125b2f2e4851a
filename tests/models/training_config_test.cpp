#include "models/training_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "models/config_json.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

TrainingConfig training_of(const std::string& text) {
  return read_training_config(JsonObject(parse_json(text, "t.json"), "t.json"));
}

// Two steps of warm-up, then a cosine over three: its start, its middle and its end.
TEST(LearningRate, RisesAndFalls) {
  const TrainingConfig config{.steps = 5, .learning_rate = 8, .min_learning_rate = 2, .warmup_steps = 2};
  const std::vector<double> expected = {4, 8, 8, 5, 2};
  for (std::size_t step = 0; step < expected.size(); ++step) {
    EXPECT_DOUBLE_EQ(learning_rate_at(config, static_cast<std::int64_t>(step)), expected[step]) << step;
  }
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 100), 2);
}

TEST(LearningRate, StaysWithoutASchedule) {
  const TrainingConfig config{.steps = 5, .learning_rate = 8, .cosine_schedule = false};
  EXPECT_EQ(learning_rate_at(config, 0), 8);
  EXPECT_EQ(learning_rate_at(config, 4), 8);
}

TEST(TrainingConfig, Fp16ScalesItsLoss) {
  EXPECT_TRUE(training_of(R"({"dtype": "fp16"})").dynamic_loss_scale);
  EXPECT_EQ(training_of(R"({"dtype": "fp16"})").loss_scale, 65536);
  EXPECT_EQ(training_of(R"({"dtype": "fp16", "loss_scale": 8})").loss_scale, 8);
  EXPECT_FALSE(training_of(R"({"dtype": "bf16"})").dynamic_loss_scale);
}

// 100 images in batches of 8: an epoch is 12.5 steps.
TEST(TrainingConfig, EpochsBecomeSteps) {
  TrainingConfig config = training_of(R"({"batch_size": 8, "epochs": 4, "warmup_epochs": 0.5})");
  config = with_steps(config, 100);
  EXPECT_EQ(config.steps, 50);
  EXPECT_EQ(config.warmup_steps, 6);  // 6.25
  EXPECT_EQ(config.epochs, 0);
  EXPECT_EQ(with_steps(config, 7), config) << "steps are left alone";
  config = with_steps(training_of(R"({"batch_size": 8, "epochs": 0.01})"), 100);
  EXPECT_EQ(config.steps, 1) << "never none";
  EXPECT_EQ(error_text([] {
              static_cast<void>(with_steps(training_of(R"({"epochs": 1, "warmup_steps": 20})"), 80));
            }),
            "training.warmup_steps: is 20; it must be from 0 to the 10 steps");
}

TEST(TrainingConfig, ReadsBackWhatItWrites) {
  for (const std::string text :
       {R"({"epochs": 2.5, "warmup_epochs": 1, "frozen": ["moe", "head"], "dtype": "bf16"})",
        R"({"steps": 7, "warmup_steps": 3, "label_smoothing": 0.1, "seed": 18})"}) {
    const TrainingConfig config = training_of(text);
    EXPECT_EQ(training_of(to_json(config).dump()), config) << text;
  }
}

TEST(RunConfig, ReadsItsKeys) {
  const auto run_of = [](const std::string& text) {
    return read_run_config(JsonObject(parse_json(text, "r.json"), "r.json"), "/configs");
  };
  const RunConfig config = run_of(R"({"log_every": 2, "evaluate_every": 3, "checkpoint_every": 0,
    "keep_checkpoints": 5, "drift_check_every": 6, "init": "a.safetensors"})");
  EXPECT_EQ(config, (RunConfig{.log_every = 2,
                               .evaluate_every = 3,
                               .checkpoint_every = 0,
                               .keep_checkpoints = 5,
                               .drift_check_every = 6,
                               .init = "/configs/a.safetensors"}));
  EXPECT_EQ(run_of(to_json(config).dump()), config);
  EXPECT_EQ(run_of("{}"), RunConfig{});
  EXPECT_EQ(error_text([&] { static_cast<void>(run_of(R"({"log_every": 0})")); }),
            "r.json: log_every: is 0; it must be at least 1");
}

TEST(TrainingConfig, NamesTheKeyOfAMistake) {
  const auto error = [](const std::string& text) {
    return error_text([&] { static_cast<void>(training_of(text)); });
  };
  EXPECT_EQ(error(R"({"warmup_steps": 9, "steps": 5})"),
            "t.json: training.warmup_steps: is 9; it must be from 0 to the 5 steps");
  EXPECT_EQ(error(R"({"learning_rate": 1e-4, "min_learning_rate": 1e-3})"),
            "t.json: training.min_learning_rate: is 0.001; it must be at most learning_rate, 0.0001");
  EXPECT_EQ(error(R"({"steps": 5, "epochs": 1})"),
            "t.json: epochs: is given beside steps; one of them decides");
  EXPECT_EQ(error(R"({"epochs": 1, "warmup_epochs": 2})"),
            "t.json: training.warmup_epochs: is 2; it must be from 0 to the 1 epochs");
  EXPECT_EQ(error(R"({"batch_size": 0})"), "t.json: batch_size: is 0; it must be at least 1");
  EXPECT_EQ(error_text([] { validate(TrainingConfig{.batch_size = 6}, 4); }),
            "training.batch_size: is 6; it must be a multiple of the 4 ranks");
}

}  // namespace
}  // namespace flex::testing
