#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kernels/nn/position_bias.h"
#include "models/checkpoint/load_parameters.h"
#include "models/checkpoint/training_checkpoint.h"
#include "models/image_classifier.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/training_runs.h"

/// A checkpoint of one image size and number of classes, from which training of another begins.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
namespace fs = std::filesystem;

// 64 x 64 pixels in windows of 4, five classes.
ModelConfig trained_model() { return model_of(micro_model("swinv2", 2)); }

// 128 x 128 in windows of 8, three classes.
ModelConfig tuned_model(const fs::path& checkpoint) {
  ModelConfig model = trained_model();
  model.image_size = 128;
  model.window_size = 8;
  model.num_classes = 3;
  model.drop_path = 0;
  return with_position_windows(model, ParameterFiles(checkpoint));
}

template <class Body>
void with_trainer(const ModelConfig& model, const TrainingConfig& training, const Body& body) {
  run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(model, training, {}, context);
    body(trainer, context);
  });
}

std::map<std::string, std::vector<double>> values_of(SwinV2Moe& model) {
  std::map<std::string, std::vector<double>> values;
  for (const ModelParameter& parameter : model.parameters().all()) {
    for (std::int64_t i = 0; i < parameter.value.num_elements(); ++i)
      values[parameter.spec.name].push_back(host_element(parameter.value, i));
  }
  return values;
}

class FineTuning : public ::testing::Test {
 protected:
  FineTuning() {
    with_trainer(trained_model(), micro_training(DType::kF32, 3),
                 [this](Trainer& trainer, RankContext& context) {
                   open_branches(trainer.model());
                   trainer.optimizer().adopt_parameters_blocking();
                   static_cast<void>(losses_of(trainer, context));
                   save_checkpoint(directory_.path(), trainer);
                   const auto values = values_of(trainer.model());
                   if (context.rank() == 0) trained_ = values;
                 });
  }
  [[nodiscard]] fs::path checkpoint() const { return directory_ / "step_00000003"; }

  TemporaryDirectory directory_;
  std::map<std::string, std::vector<double>> trained_;  // of rank 0
};

// Reloaded at the same size, on another number of ranks, by what trains and by what only infers.
TEST_F(FineTuning, EqualSizesGiveEqualLogits) {
  const ModelConfig model = trained_model();
  const TrainingConfig training = micro_training(DType::kF32, 1);
  const auto logits_of = [&](auto& inferring) {
    ProceduralImages images(model, DType::kF32, training.batch_size, 11);
    const ConstTensorView logits = inferring.infer_blocking(images.make(0).images);
    return std::vector<float>(logits.as<float>(), logits.as<float>() + logits.num_elements());
  };
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer resumed(model, training, {}, context);
    load_checkpoint(checkpoint(), resumed);
    const std::vector<float> expected = logits_of(resumed);
    TrainingConfig other_seed = training;
    other_seed.seed = 99;
    Trainer loaded(model, other_seed, {}, context);
    EXPECT_NE(logits_of(loaded), expected);
    load_parameters(checkpoint(), loaded);
    EXPECT_EQ(logits_of(loaded), expected);
    ImageClassifier classifier(model, other_seed, {}, context);
    load_parameters(checkpoint(), classifier.model(), context);
    EXPECT_EQ(logits_of(classifier), expected);
  });
}

// All but the head comes from the checkpoint. With the MoE layers frozen, thirty steps on one batch lower
// its loss, change what is to be trained, and leave gates and experts as they were.
TEST_F(FineTuning, LearnsAtAnotherSizeWithFrozenMoeLayers) {
  TrainingConfig training = micro_training(DType::kF32, 30);
  training.learning_rate = 1e-2;
  training.frozen = {"moe"};
  with_trainer(tuned_model(checkpoint()), training, [&](Trainer& trainer, RankContext& context) {
    const LoadedParameters loaded = load_parameters(checkpoint(), trainer, {.keeps_head = true});
    EXPECT_THAT(loaded.kept, ElementsAre("head.fc.weight", "head.fc.bias"));
    const auto before = values_of(trainer.model());
    for (const auto& [name, values] : before) {
      if (context.rank() != 0 || name.starts_with("head.")) continue;
      EXPECT_EQ(values, trained_.at(name)) << name;
    }
    ProceduralImages images(trainer.model().config(), DType::kF32, trainer.local_batch(), 11);
    const ImageBatch batch = images.make(context.rank() * trainer.local_batch());
    std::vector<double> losses;
    for (std::int64_t step = 0; step < training.steps; ++step)
      losses.push_back(trainer.step_blocking(batch).cross_entropy);
    EXPECT_LT(losses.back(), 0.6 * losses.front());
    for (const auto& [name, values] : values_of(trainer.model())) {
      const bool is_moe = name.find("moe") != std::string::npos;
      EXPECT_EQ(values == before.at(name), is_moe) << name;
    }
  });
}

// Offsets of up to 3 positions are those of the window of 4, with the same relative coordinates: equal bits.
// Farther ones are new, and finite.
TEST_F(FineTuning, PositionBiasContinuesThatOfTheTrainedWindow) {
  const ModelConfig model = tuned_model(checkpoint());
  EXPECT_THAT(model.pretrained_windows, ElementsAre(4, 4, 4, 2));
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    SwinV2Moe tuned(model, {.batch = 1, .trains = false}, context);
    load_parameters(checkpoint(), tuned, context, {.keeps_head = true});
    Stream stream(Device::cpu());
    const auto table_of = [&](Extent window, Extent pretrained) {
      const auto part = [&](const char* name) {
        return ConstTensorView(
            tuned.parameters().at(std::string("layers.1.blocks.0.attn.cpb_mlp.") + name).value);
      };
      Tensor table = Tensor::zeros(DType::kF32, {2, num_offsets(window)});
      position_bias({.window = window,
                     .pretrained_window = pretrained,
                     .fc1_weight = part("0.weight"),
                     .fc1_bias = part("0.bias"),
                     .fc2_weight = part("2.weight"),
                     .table = table},
                    stream);
      stream.synchronize_blocking();
      return table;
    };
    const Tensor small = table_of({4, 4}, {});
    const Tensor large = table_of({8, 8}, {4, 4});
    const Tensor stretched = table_of({8, 8}, {});
    int differing = 0;
    for (std::int64_t head = 0; head < 2; ++head) {
      for (std::int64_t down = -7; down <= 7; ++down) {
        for (std::int64_t across = -7; across <= 7; ++across) {
          const std::int64_t at = head * 225 + (down + 7) * 15 + across + 7;
          EXPECT_TRUE(std::isfinite(large.as<float>()[at]));
          if (std::abs(down) > 3 || std::abs(across) > 3) continue;
          const float expected = small.as<float>()[head * 49 + (down + 3) * 7 + across + 3];
          EXPECT_EQ(large.as<float>()[at], expected) << down << " " << across;
          if (stretched.as<float>()[at] != expected) ++differing;
        }
      }
    }
    // Without the trained window only the middle keeps its place.
    EXPECT_EQ(differing, 2 * 48);
  });
}

}  // namespace
}  // namespace flex::testing
