#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/json.h"
#include "base/json_object.h"
#include "models/image_classifier.h"
#include "models/parameter_hash.h"
#include "tests/models/training_runs.h"
#include "tests/support/compare.h"

/// Parameters that are left as they are, features, and ranks that drift apart.
namespace flex::testing {
namespace {

ModelConfig micro() { return model_of(micro_model("swinv2", 2)); }

template <class Body>
void with_trainer(const TrainingConfig& training, const Topology& topology, const Body& body) {
  run_ranks(topology, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(micro(), training, {}, context);
    open_branches(trainer.model());
    body(trainer, context);
  });
}

std::map<std::string, std::vector<double>> values_of(Trainer& trainer, bool gradients) {
  std::map<std::string, std::vector<double>> values;
  for (const ModelParameter& parameter : trainer.model().parameters().all()) {
    std::vector<double>& list = values[parameter.spec.name];
    const TensorView& view = gradients ? parameter.gradient : parameter.value;
    for (std::int64_t i = 0; i < view.num_elements(); ++i) list.push_back(host_element(view, i));
  }
  return values;
}

bool is_moe(const std::string& name) { return name.find("moe") != std::string::npos; }

TEST(Freezing, LeavesTheMoeLayersAsTheyAreAndTrainsTheRest) {
  TrainingConfig training = micro_training(DType::kF64, 2);
  training.frozen = {"moe"};
  with_trainer(training, {2, 2}, [](Trainer& trainer, RankContext& context) {
    const auto before = values_of(trainer, false);
    static_cast<void>(losses_of(trainer, context));
    int frozen = 0;
    for (const auto& [name, values] : values_of(trainer, false)) {
      EXPECT_EQ(values == before.at(name), is_moe(name)) << name;
      frozen += is_moe(name) ? 1 : 0;
    }
    EXPECT_EQ(frozen, 2 * 8);  // two MoE layers: four parameters of the gate, four of the experts
  });
}

// The norm is over what is trained: here over the classifier's two parameters alone.
TEST(Freezing, KeepsNoMomentsAndNoPartInTheGradientNorm) {
  TrainingConfig training = micro_training(DType::kF64, 1);
  training.frozen = {"layers", "patch_embed", "norm."};
  with_trainer(training, {1, 1}, [](Trainer& trainer, RankContext&) {
    ProceduralImages images(micro(), DType::kF64, trainer.local_batch(), 11);
    const double norm = trainer.step_blocking(images.make(0)).gradient_norm;
    double square = 0;
    std::int64_t elements = 0;
    for (const auto& [name, gradient] : values_of(trainer, true)) {
      if (!name.starts_with("head.")) continue;
      for (const double value : gradient) square += value * value;
      elements += static_cast<std::int64_t>(gradient.size());
    }
    EXPECT_NEAR(norm, std::sqrt(square), 1e-12 * norm);
    EXPECT_GT(norm, 0);
    EXPECT_EQ(trainer.optimizer().state_bytes(), 2 * 8 * elements);  // two moments in fp64
  });
}

TEST(Freezing, NamesPartsThatNoNameHolds) {
  const auto error = [](const std::vector<std::string>& frozen) {
    TrainingConfig training = micro_training(DType::kF32, 1);
    training.frozen = frozen;
    return error_text([&] { with_trainer(training, {1, 1}, [](Trainer&, RankContext&) {}); });
  };
  EXPECT_EQ(error({"moe", "expertz"}),
            "training.frozen: no parameter's name holds 'expertz'; did you mean 'experts'?");
  EXPECT_EQ(error({"something else"}), "training.frozen: no parameter's name holds 'something else'");
  EXPECT_EQ(error({"."}), "training.frozen: leaves no parameter to train");
}

TEST(Freezing, IsReadAsOnePartOrAList) {
  const auto read = [](const std::string& text) {
    return read_training_config(JsonObject(parse_json(text, "t.json"), "t.json")).frozen;
  };
  EXPECT_EQ(read("{}"), std::vector<std::string>{});
  EXPECT_EQ(read(R"({"frozen": "moe"})"), std::vector<std::string>{"moe"});
  EXPECT_EQ(read(R"({"frozen": ["mlp.moe", "head"]})"), (std::vector<std::string>{"mlp.moe", "head"}));
  EXPECT_EQ(error_text([&] { static_cast<void>(read(R"({"frozen": ["moe", ""]})")); }),
            "t.json: frozen: holds an empty part, which every name has; leave it out");
  EXPECT_EQ(error_text([&] { static_cast<void>(read(R"({"frozen": 3})")); }),
            "t.json: frozen: is 3; it must be a part of a name, or a list of them");
}

// The linear head's product with the features gives the logits.
TEST(Features, AreWhatEntersTheHead) {
  run_ranks({2, 2}, std::chrono::seconds(60), [](Communicator& world) {
    RankContext context(world, Device::cpu());
    ImageClassifier classifier(micro(), micro_training(DType::kF64, 1), {}, context);
    EXPECT_EQ(error_text([&] { static_cast<void>(classifier.features_blocking()); }),
              "ImageClassifier::features_blocking: nothing was inferred before");
    open_branches(classifier.model());
    ProceduralImages images(micro(), DType::kF64, 4, 11);
    const ConstTensorView logits = classifier.infer_blocking(images.make(4 * world.rank()).images);
    const ConstTensorView features = classifier.features_blocking();
    ASSERT_EQ(features.shape, (Shape{4, 64}));
    const TensorView weight = classifier.model().parameters().at("head.fc.weight").value;
    const TensorView bias = classifier.model().parameters().at("head.fc.bias").value;
    for (std::int64_t i = 0; i < 4; ++i) {
      for (std::int64_t k = 0; k < 5; ++k) {
        double logit = bias.as<double>()[k];
        for (std::int64_t c = 0; c < 64; ++c)
          logit += features.as<double>()[i * 64 + c] * weight.as<double>()[k * 64 + c];
        EXPECT_NEAR(logits.as<double>()[i * 5 + k], logit, 1e-12);
      }
    }
  });
}

TEST(ParameterHash, IsAlikeOnAllRanksAndFollowsTheParameters) {
  with_trainer(micro_training(DType::kF32, 2), {4, 4}, [](Trainer& trainer, RankContext& context) {
    const std::uint64_t before = parameter_hash_blocking(trainer.model().parameters(), context);
    EXPECT_EQ(parameter_hash_blocking(trainer.model().parameters(), context), before);
    trainer.model().parameters().at("head.fc.bias").value.as<float>()[3] += 1;
    EXPECT_NE(parameter_hash_blocking(trainer.model().parameters(), context), before);
  });
}

// The lowest bit of one element.
void disturb(Trainer& trainer, const std::string& name) {
  auto* value = trainer.model().parameters().at(name).value.as<float>();
  std::uint32_t bits = 0;
  std::memcpy(&bits, value, sizeof(bits));
  bits ^= 1U;
  std::memcpy(value, &bits, sizeof(bits));
}

TEST(ParameterHash, NamesTheRankAndTheFirstParameterThatDiffers) {
  const auto error_with = [](int rank, const Topology& topology, const std::vector<std::string>& names) {
    TrainingConfig training = micro_training(DType::kF32, 1);
    std::vector<std::string> errors(static_cast<std::size_t>(topology.world));
    with_trainer(training, topology, [&](Trainer& trainer, RankContext& context) {
      for (const std::string& name : names) {
        if (context.rank() == rank) disturb(trainer, name);
      }
      errors[static_cast<std::size_t>(context.rank())] = error_text<Error>(
          [&] { static_cast<void>(parameter_hash_blocking(trainer.model().parameters(), context)); });
    });
    for (const std::string& error : errors) EXPECT_EQ(error, errors.front());
    return errors.front();
  };
  const std::string gate = "layers.2.blocks.1.mlp.moe.gates.0.sim_matrix";
  EXPECT_EQ(error_with(0, {4, 4}, {"norm.bias", gate}), "the ranks drifted apart: on rank 0 the parameter '" +
                                                            gate + "' is not what it is on other ranks");
  EXPECT_EQ(error_with(0, {2, 2}, {"norm.bias"}),
            "the ranks drifted apart: on rank 1 the parameter 'norm.bias' is not what it is on other ranks");
  // Experts are each rank's own.
  EXPECT_EQ(error_with(1, {2, 2}, {"layers.2.blocks.1.mlp.moe.experts.batched_fc1_w"}),
            "(nothing was thrown)");
}

}  // namespace
}  // namespace flex::testing
