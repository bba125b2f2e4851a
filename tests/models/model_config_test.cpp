#include "models/model_config.h"

#include <gtest/gtest.h>

#include "tests/models/configs.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

TEST(ModelConfig, SizesAreThePublishedOnes) {
  const ModelConfig tiny = model_of(R"({"block": "swinv2", "size": "tiny"})");
  EXPECT_EQ(tiny.depths, (std::vector<std::int64_t>{2, 2, 6, 2}));
  const ModelConfig base = model_of(R"({"block": "swin_moe", "size": "base", "depths": [1, 1, 3, 1]})");
  EXPECT_EQ(base.block, BlockKind::kSwinMoe);
  EXPECT_EQ(base.embed_dim, 128);
  EXPECT_EQ(base.depths, (std::vector<std::int64_t>{1, 1, 3, 1}));
  EXPECT_EQ(base.num_heads, (std::vector<std::int64_t>{4, 8, 16, 32}));
}

TEST(ModelConfig, ExpertsReplaceTheOddBlocksOfTheLastTwoStages) {
  const ModelConfig config = model_of(R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 4}})");
  EXPECT_EQ(config.moe.blocks, (std::vector<BlockPlace>{{2, 1}, {2, 3}, {2, 5}, {3, 1}}));
  EXPECT_TRUE(config.is_moe({2, 3}));
  EXPECT_FALSE(config.is_moe({2, 2}));
}

TEST(ModelConfig, InferenceRoutesAsTrainingUnlessToldOtherwise) {
  const ModelConfig same = model_of(
      R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 4, "top_k": 2, "capacity_factor": 1.5}})");
  EXPECT_EQ(same.moe.inference, (Routing{2, 1.5}));
  const ModelConfig other = model_of(R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 4,
      "top_k": 2, "capacity_factor": 1.5, "inference_top_k": 1, "inference_capacity_factor": 0}})");
  EXPECT_EQ(other.moe.training, (Routing{2, 1.5}));
  EXPECT_EQ(other.moe.inference, (Routing{1, 0}));
}

// 196 / 4 = 49, halved and rounded up: 25, 13, 7. A window of 12 is clamped to the last map.
TEST(ModelConfig, MapsRoundUpAndWindowsAreClamped) {
  const ModelConfig config =
      model_of(R"({"block": "swinv2", "size": "tiny", "image_size": 196, "window_size": 12})");
  EXPECT_EQ(config.map(0), (Extent{49, 49}));
  EXPECT_EQ(config.map(3), (Extent{7, 7}));
  EXPECT_EQ(config.window({0, 1}).shift, (Extent{6, 6}));
  EXPECT_TRUE(config.window({0, 1}).is_padded());
  EXPECT_EQ(config.window({3, 1}).window, (Extent{7, 7}));
  EXPECT_EQ(config.window({3, 1}).shift, (Extent{0, 0}));
}

TEST(ModelConfig, AllBlocksMayBeCheckpointed) {
  const ModelConfig config = model_of(R"({"block": "swinv2", "size": "tiny", "checkpointed": "all"})");
  EXPECT_EQ(config.checkpointed, config.all_blocks());
  const ModelConfig two =
      model_of(R"({"block": "swinv2", "size": "tiny", "checkpointed": [[2, 3], [0, 1]]})");
  EXPECT_EQ(two.checkpointed, (std::vector<BlockPlace>{{0, 1}, {2, 3}}));
}

// 12 blocks: the second has 1/11 of the rate.
TEST(ModelConfig, DropPathRisesLinearly) {
  const ModelConfig config = model_of(R"({"block": "swinv2", "size": "tiny", "drop_path": 0.22})");
  EXPECT_DOUBLE_EQ(config.drop_path_of({0, 0}), 0);
  EXPECT_DOUBLE_EQ(config.drop_path_of({0, 1}), 0.02);
  EXPECT_DOUBLE_EQ(config.drop_path_of({3, 1}), 0.22);
}

TEST(ModelConfig, MergingStandsWhereTheBlockKindHasIt) {
  ModelConfig config;
  EXPECT_FALSE(config.merges_before(0));
  EXPECT_TRUE(config.merges_before(3));
  EXPECT_FALSE(config.merges_after(0));
  config.block = BlockKind::kSwinMoe;
  EXPECT_FALSE(config.merges_before(3));
  EXPECT_TRUE(config.merges_after(0));
  EXPECT_FALSE(config.merges_after(3));
}

struct Mistake {
  const char* text;
  const char* message;
};
void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.text; }

class ModelConfigMistake : public ::testing::TestWithParam<Mistake> {};

TEST_P(ModelConfigMistake, IsNamedWithItsKey) {
  EXPECT_EQ(error_text([] { static_cast<void>(model_of(GetParam().text)); }), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Keys, ModelConfigMistake,
    ::testing::Values(
        Mistake{R"({"size": "tiny"})", "model.json: block: is missing"},
        Mistake{R"({"block": "swinv2"})", "model.json: embed_dim: is missing"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "image_size": 190})",
                "model.json: image_size: is 190; it must be a multiple of 4, such as 192"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "depths": [2, 2, 1099511627776, 2]})",
                "model.json: depths[2]: is 1099511627776; it must be at least 1 and at most 256"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "depths": [2, 2, 6]})",
                "model.json: depths: has 3 entries; it must have one for each of the 4 stages"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "num_heads": [5, 6, 12, 24]})",
                "model.json: num_heads: 5 heads of stage 0 do not divide its 96 channels"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "num_heads": [3, 1, 12, 24]})",
                "model.json: num_heads: 1 heads of stage 1 have 192 channels each; at most 128"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "window_size": 24})",
                "model.json: window_size: is 24: windows of 576 positions; they have at most 256"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "drop_path": 1})",
                "model.json: drop_path: is 1; it must be at least 0 and below 1"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "checkpointed": [[0, 2]]})",
                "model.json: checkpointed: names block 2 of stage 0; its blocks are 0 to 1"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "checkpointed": [[0]]})",
                "model.json: checkpointed: has an entry of 1 numbers; entries are [stage, block]"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "blocks": [[4, 0]]}})",
                "model.json: moe.blocks: names stage 4; stages are 0 to 3"},
        Mistake{
            R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "blocks": [[2, 1], [2, 1]]}})",
            "model.json: moe.blocks: [2, 1] is out of order or there twice"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "top_k": 3}})",
                "model.json: moe.top_k: is 3; with 2 experts it must be from 1 to 2"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "inference_top_k": 3}})",
                "model.json: moe.inference_top_k: is 3; with 2 experts it must be from 1 to 2"},
        Mistake{R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "expert_dropout": 1}})",
                "model.json: moe.expert_dropout: is 1; it must be at least 0 and below 1"},
        Mistake{
            R"({"block": "swinv2", "size": "tiny", "moe": {"num_experts": 2, "aux_loss": "load_importance"}})",
            "model.json: moe: the load_importance loss needs gate_noise above 0; it is 0"}));

TEST(ModelConfig, AMisspelledKeyIsNamedWithTheNearest) {
  const std::string text =
      error_text([] { static_cast<void>(model_of(R"({"block": "swinv2", "size": "tiny", "window": 8})")); });
  EXPECT_NE(text.find("window"), std::string::npos) << text;
  EXPECT_NE(text.find("window_size"), std::string::npos) << text;
}

}  // namespace
}  // namespace flex::testing
