#include "models/parameter_list.h"

#include <gtest/gtest.h>

#include <map>

#include "models/reference_model.h"
#include "tests/models/configs.h"

namespace flex::testing {
namespace {

class ReferenceFile : public ::testing::TestWithParam<const char*> {};

// The checkpoints of the reference models hold these parameters, under these names, and no others.
TEST_P(ReferenceFile, HoldsTheListedParameters) {
  const SafetensorsFile file(std::string(FLEX_SOURCE_DIR "/tests/golden/") + GetParam());
  const ReferenceModel reference = read_reference_model(file);
  std::map<std::string, std::vector<std::int64_t>> expected;
  for (const SafetensorsTensor* tensor : reference.parameters)
    expected[tensor->name.substr(std::string_view("init.").size())] = tensor->shape;
  std::map<std::string, std::vector<std::int64_t>> listed;
  for (const ParameterSpec& spec : parameter_list(reference.model)) {
    std::vector<std::int64_t>& shape = listed[spec.name];
    for (int axis = 0; axis < spec.shape.rank(); ++axis) shape.push_back(spec.shape[axis]);
  }
  EXPECT_EQ(listed, expected);
}

INSTANTIATE_TEST_SUITE_P(Files, ReferenceFile,
                         ::testing::Values("swinv2_micro.safetensors", "swinv2_moe_micro.safetensors",
                                           "swin_moe_released_micro.safetensors"));

TEST(ParameterList, DecaysWhatIsNeitherAVectorNorNamed) {
  const ModelConfig config =
      model_of(R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "gate": "cosine"}})");
  const std::vector<std::string> no_decay = {"cpb_mlp", "cosine_projector", "sim_matrix"};
  std::map<std::string, bool> decay;
  for (const ParameterSpec& spec : parameter_list(config)) decay[spec.name] = decays(spec, no_decay);
  EXPECT_TRUE(decay.at("layers.0.blocks.0.attn.qkv.weight"));
  EXPECT_TRUE(decay.at("layers.0.blocks.0.attn.logit_scale"));
  EXPECT_TRUE(decay.at("layers.3.blocks.1.mlp.moe.experts.batched_fc1_bias"));
  EXPECT_FALSE(decay.at("layers.0.blocks.0.attn.q_bias"));
  EXPECT_FALSE(decay.at("layers.0.blocks.0.attn.cpb_mlp.2.weight"));
  EXPECT_FALSE(decay.at("layers.3.blocks.1.mlp.moe.gates.0.sim_matrix"));
  EXPECT_FALSE(decay.at("layers.3.blocks.1.mlp.moe.gates.0.temperature"));
}

TEST(ParameterList, FreezesTheSecondBiasOfTheReleasedExpertsOnly) {
  const auto frozen = [](const char* block) {
    std::vector<std::string> names;
    for (const ParameterSpec& spec : parameter_list(model_of(
             std::string(R"({"moe": {"num_experts": 2}, "size": "tiny", "block": ")") + block + "\"}"))) {
      if (!spec.trained) names.push_back(spec.name);
    }
    return names;
  };
  EXPECT_TRUE(frozen("swinv2").empty());
  const std::vector<std::string> names = frozen("swin_moe");
  EXPECT_EQ(names.size(), 4U);
  EXPECT_EQ(names.back(), "layers.3.blocks.1.mlp._moe_layer.experts.batched_fc2_bias");
}

}  // namespace
}  // namespace flex::testing
