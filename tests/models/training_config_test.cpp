#include "models/training_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
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

TEST(TrainingConfig, NamesTheKeyOfAMistake) {
  const auto error = [](const std::string& text) {
    return error_text([&] { static_cast<void>(training_of(text)); });
  };
  EXPECT_EQ(error(R"({"warmup_steps": 9, "steps": 5})"),
            "t.json: training.warmup_steps: is 9; it must be from 0 to the 5 steps");
  EXPECT_EQ(error(R"({"learning_rate": 1e-4, "min_learning_rate": 1e-3})"),
            "t.json: training.min_learning_rate: is 0.001; it must be at most learning_rate, 0.0001");
  EXPECT_EQ(error(R"({"batch_size": 0})"), "t.json: batch_size: is 0; it must be at least 1");
  EXPECT_EQ(error_text([] { validate(TrainingConfig{.batch_size = 6}, 4); }),
            "training.batch_size: is 6; it must be a multiple of the 4 ranks");
}

}  // namespace
}  // namespace flex::testing
