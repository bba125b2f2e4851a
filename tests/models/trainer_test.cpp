#include "models/trainer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/host_element.h"
#include "models/image_classifier.h"
#include "tests/models/training_runs.h"
#include "tests/support/compare.h"
#include "tests/support/count_allocations.h"
#include "tests/support/tensors.h"

namespace flex::testing {
namespace {

ModelConfig micro() { return model_of(micro_model("swinv2", 2)); }

// One rank with a trainer of `model`.
template <class Body>
void with_trainer(const ModelConfig& model, const TrainingConfig& training, const Body& body) {
  run_ranks({}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(model, training, {}, context);
    open_branches(trainer.model());
    body(trainer, context);
  });
}

TEST(Trainer, AWarmedUpStepAllocatesNothing) {
  std::atomic<std::int64_t> allocations{-1};
  run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    // A fixed capacity, so that the layers' memory does not grow with the routing.
    ModelConfig model = micro();
    model.moe.training.capacity_factor = 1.25;
    Trainer trainer(model, micro_training(DType::kF32, 10), {}, context);
    ProceduralImages images(model, DType::kF32, trainer.local_batch(), 11);
    const ImageBatch batch = images.make(world.rank() * trainer.local_batch());
    for (int i = 0; i < 3; ++i) static_cast<void>(trainer.step_blocking(batch));
    std::vector<std::int64_t> arrived(2);
    const std::array<std::int64_t, 1> here{0};
    world.gather_host_blocking(here, arrived);
    const std::int64_t before = num_allocations();
    for (int i = 0; i < 3; ++i) static_cast<void>(trainer.step_blocking(batch));
    world.gather_host_blocking(here, arrived);
    if (world.rank() == 0) allocations = num_allocations() - before;
    world.gather_host_blocking(here, arrived);
  });
  EXPECT_EQ(allocations, 0);
}

// One row for each of 8 samples: 1 - share of its label, share of the class `away` places on.
Tensor mixed_targets(const Tensor& labels, double share, std::int64_t away = 1) {
  constexpr std::int64_t kClasses = 5;
  Tensor targets = Tensor::zeros(DType::kF64, {labels.num_elements(), kClasses}, Device::cpu());
  for (std::int64_t i = 0; i < labels.num_elements(); ++i) {
    const std::int64_t label = labels.as<std::int32_t>()[i];
    targets.as<double>()[i * kClasses + label] += 1 - share;
    targets.as<double>()[i * kClasses + (label + away) % kClasses] += share;
  }
  return targets;
}

Tensor labels_from(std::int32_t first) {
  Tensor labels(DType::kI32, {8});
  for (std::int32_t i = 0; i < 8; ++i) labels.as<std::int32_t>()[i] = (first + i) % 5;
  return labels;
}

// Loss of the first step of a model that always begins alike.
double first_loss(const std::function<void(ImageBatch&)>& give_targets) {
  double loss = 0;
  TrainingConfig training = micro_training(DType::kF64, 1);
  training.label_smoothing = 0.1;
  with_trainer(micro(), training, [&](Trainer& trainer, RankContext&) {
    ProceduralImages images(trainer.model().config(), DType::kF64, trainer.local_batch(), 11);
    ImageBatch batch = images.make(0);
    give_targets(batch);
    loss = trainer.step_blocking(batch).cross_entropy;
  });
  return loss;
}

// The loss is linear in the targets, and a target of one class is a label.
TEST(Trainer, TakesSoftTargets) {
  const Tensor first = labels_from(0);
  const Tensor second = labels_from(1);
  const double of_first = first_loss([&](ImageBatch& batch) { batch.labels = first; });
  const double of_second = first_loss([&](ImageBatch& batch) { batch.labels = second; });
  EXPECT_GT(std::abs(of_first - of_second), 1e-3);
  const Tensor hard = mixed_targets(first, 0);
  const Tensor mixed = mixed_targets(first, 0.25);
  EXPECT_EQ(first_loss([&](ImageBatch& batch) {
              batch.labels = {};  // are not read
              batch.targets = hard;
            }),
            of_first);
  EXPECT_NEAR(first_loss([&](ImageBatch& batch) { batch.targets = mixed; }),
              0.75 * of_first + 0.25 * of_second, 1e-12);
}

TEST(Trainer, TakesTargetsAndLabelsInTurnWithoutAllocating) {
  // A fixed capacity, so that the layers' memory does not grow with the routing.
  ModelConfig model = micro();
  model.moe.training.capacity_factor = 1.25;
  with_trainer(model, micro_training(DType::kF64, 10), [&](Trainer& trainer, RankContext&) {
    ProceduralImages images(model, DType::kF64, trainer.local_batch(), 11);
    const ImageBatch labelled = images.make(0);
    const Tensor targets = mixed_targets(labels_from(0), 0.5);
    ImageBatch soft = labelled;
    soft.targets = targets;
    for (int i = 0; i < 2; ++i) {
      static_cast<void>(trainer.step_blocking(labelled));
      static_cast<void>(trainer.step_blocking(soft));
    }
    const std::int64_t before = num_allocations();
    static_cast<void>(trainer.step_blocking(soft));
    static_cast<void>(trainer.step_blocking(labelled));
    EXPECT_EQ(num_allocations() - before, 0);
  });
}

// What a checkpointed block computes again has the same bits.
TEST(Trainer, CheckpointingChangesNoBitAndNeedsLessMemory) {
  for (const char* block : {"swinv2", "swin_moe"}) {
    ModelConfig model = model_of(micro_model(block, 2));
    const TrainingConfig training = micro_training(DType::kF32, 4);
    std::vector<double> expected;
    std::int64_t bytes = 0;
    with_trainer(model, training, [&](Trainer& trainer, RankContext& context) {
      expected = losses_of(trainer, context);
      bytes = trainer.model().activation_bytes();
    });
    model.checkpointed = model.all_blocks();
    with_trainer(model, training, [&](Trainer& trainer, RankContext& context) {
      EXPECT_EQ(losses_of(trainer, context), expected) << block;
      EXPECT_LT(trainer.model().activation_bytes(), bytes) << block;
    });
  }
}

TEST(Trainer, KeepsAMovingAverage) {
  TrainingConfig training = micro_training(DType::kF64, 1);
  training.average_decay = 0.75;
  with_trainer(micro(), training, [&](Trainer& trainer, RankContext& context) {
    const std::string name = "head.fc.weight";
    const ModelParameter& parameter = trainer.model().parameters().at(name);
    const double before = host_element(parameter.value, 0);
    static_cast<void>(losses_of(trainer, context));
    const double after = host_element(parameter.value, 0);
    EXPECT_NE(before, after);
    EXPECT_DOUBLE_EQ(host_element(trainer.optimizer().average(name), 0), 0.75 * before + 0.25 * after);
  });
  with_trainer(micro(), micro_training(DType::kF64, 1), [&](Trainer& trainer, RankContext&) {
    EXPECT_EQ(error_text([&] { static_cast<void>(trainer.optimizer().average("head.fc.weight")); }),
              "no moving average is kept of 'head.fc.weight'; set training.average_decay");
  });
}

// One rank's gradient that is not finite stops the step on all ranks.
TEST(Trainer, AGradientThatIsNotFiniteChangesNothingOnAnyRank) {
  run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    TrainingConfig training = micro_training(DType::kF32, 4);
    training.loss_scale = 1024;
    training.dynamic_loss_scale = true;
    Trainer trainer(micro(), training, {}, context);
    ProceduralImages images(trainer.model().config(), DType::kF32, trainer.local_batch(), 11);
    const ImageBatch batch = images.make(world.rank() * trainer.local_batch());
    EXPECT_TRUE(trainer.step_blocking(batch).updated);
    const ModelParameter& bias = trainer.model().parameters().at("head.fc.bias");
    const float before = bias.value.as<float>()[0];
    Optimizer& optimizer = trainer.optimizer();
    Stream stream(Device::cpu());
    if (world.rank() == 1) bias.gradient.as<float>()[1] = std::numeric_limits<float>::infinity();
    optimizer.step(1e-3, 1, stream);
    stream.synchronize_blocking();
    EXPECT_EQ(bias.value.as<float>()[0], before);
    EXPECT_FALSE(std::isfinite(optimizer.gradient_norm_blocking()));
    EXPECT_EQ(optimizer.num_steps_blocking(), 1);
  });
}

TEST(LossScale, FallsAtOnceAndRisesAfterManyGoodSteps) {
  TrainingConfig config{.loss_scale = 64, .dynamic_loss_scale = true};
  LossScale scale(config);
  scale.update(false);
  EXPECT_EQ(scale.value(), 32);
  for (int i = 0; i < LossScale::kGrowthSteps - 1; ++i) scale.update(true);
  EXPECT_EQ(scale.value(), 32);
  scale.update(true);
  EXPECT_EQ(scale.value(), 64);
  config.dynamic_loss_scale = false;
  LossScale fixed(config);
  fixed.update(false);
  EXPECT_EQ(fixed.value(), 64);
}

TEST(Trainer, RefusesWhatDoesNotFit) {
  with_trainer(micro(), micro_training(DType::kF32, 1), [&](Trainer& trainer, RankContext&) {
    ProceduralImages images(trainer.model().config(), DType::kF32, trainer.local_batch(), 11);
    ImageBatch batch = images.make(0);
    Tensor labels(DType::kI32, {8});
    std::fill_n(labels.as<std::int32_t>(), 8, 1);
    labels.as<std::int32_t>()[2] = 5;
    batch.labels = labels;
    EXPECT_EQ(error_text([&] { static_cast<void>(trainer.step_blocking(batch)); }),
              "Trainer: sample 2 has label 5; classes are 0 to 4");
    const Tensor targets(DType::kF64, {8, 5});
    batch.targets = targets;
    EXPECT_EQ(error_text([&] { static_cast<void>(trainer.step_blocking(batch)); }),
              "Trainer: targets are fp64 (8, 5), expected fp32 (8, 5)");
    batch.images = batch.images.reshaped({4, 6, 64, 64});
    EXPECT_EQ(error_text([&] { static_cast<void>(trainer.step_blocking(batch)); }),
              "Trainer: images are fp32 (4, 6, 64, 64), expected fp32 (8, 3, 64, 64)");
  });
}

TEST(Trainer, InfersWithTheRoutingOfInference) {
  ModelConfig model = micro();
  model.moe.inference = {.top_k = 2, .capacity_factor = 0};
  with_trainer(model, micro_training(DType::kF32, 1), [&](Trainer& trainer, RankContext&) {
    ProceduralImages images(model, DType::kF32, trainer.local_batch(), 11);
    const ConstTensorView logits = trainer.infer_blocking(images.make(0).images);
    EXPECT_EQ(logits.shape, (Shape{8, 5}));
    EXPECT_EQ(trainer.model().moe_layers().front().layer().routing().indices.shape[1], 2);
  });
}

TEST(ImageClassifier, HoldsNoGradientsAndInfersAsATrainer) {
  for (const char* block : {"swinv2", "swin_moe"}) {
    const ModelConfig model = model_of(micro_model(block, 2));
    const TrainingConfig training = micro_training(DType::kF32, 1);
    run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      Trainer trainer(model, training, {}, context);
      ImageClassifier classifier(model, training, {}, context);
      open_branches(trainer.model());
      open_branches(classifier.model());
      ProceduralImages images(model, DType::kF32, trainer.local_batch(), 11);
      const ImageBatch batch = images.make(world.rank() * trainer.local_batch());
      EXPECT_EQ(values_of(classifier.infer_blocking(batch.images)),
                values_of(trainer.infer_blocking(batch.images)));
      for (const ModelParameter& parameter : classifier.model().parameters().all()) {
        EXPECT_FALSE(parameter.gradient.present()) << parameter.spec.name;
        if (parameter.held_by_layer != nullptr) {
          EXPECT_EQ(parameter.held_by_layer->gradient.num_elements(), 0) << parameter.spec.name;
        }
      }
      Tensor whole(DType::kF32, {5});
      const std::string bias = head_prefix(model.block) + "bias";
      EXPECT_EQ(error_text([&] { classifier.model().parameters().store_gradient(bias, whole); }),
                bias + ": there is no gradient: the model only infers");
    });
  }
}

// Rate 0.5: half of the samples are dropped, the others count twice; independent of the number of ranks.
TEST(DropPath, KeepsTheMean) {
  int kept = 0;
  constexpr int kSamples = 4000;
  for (int sample = 0; sample < kSamples; ++sample) {
    const double factor = drop_path_factor(1, 2, 3, sample, 0.5);
    EXPECT_TRUE(factor == 0 || factor == 2);
    kept += factor == 0 ? 0 : 1;
  }
  EXPECT_NEAR(kept, kSamples * 0.5, 4 * std::sqrt(kSamples * 0.25));  // four standard deviations
  EXPECT_EQ(drop_path_factor(1, 2, 3, 4, 0), 1);
}

}  // namespace
}  // namespace flex::testing
