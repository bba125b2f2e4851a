#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

/// `flexmoe model` and `flexmoe train` as a user calls them.
namespace flex {
namespace {

using ::testing::HasSubstr;

const std::string kConfigs = FLEX_SOURCE_DIR "/models/configs/";

TEST(ModelProgram, ShowsThePublishedFigures) {
  const Result result = flexmoe("model show " + kConfigs + "swin_moe_base_e32.json");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("parameters 955.3 M, active 109.3 M, 12.54 GMAC"));
  EXPECT_THAT(result.out, HasSubstr("layers.2.blocks.17"));
}

TEST(ModelProgram, ShowsLayersAsJson) {
  const Result result = flexmoe("model show --json " + kConfigs + "swinv2_moe_micro.json");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  std::int64_t parameters = 0;
  for (const auto& layer : json["layers"]) parameters += layer["parameters"].get<std::int64_t>();
  EXPECT_EQ(json["parameters"], parameters);
  EXPECT_EQ(json["layers"].size(), 1U + 8 + 3 + 1);
}

TEST(ModelProgram, NamesFileAndKeyOfAMistake) {
  const Result result = flexmoe("model show " + kConfigs + "nothing.json");
  EXPECT_EQ(result.exit_code, 2);
}

TEST(ModelProgram, VerifiesAModel) {
  const Result result = flexmoe("verify " FLEX_SOURCE_DIR "/tests/golden/swinv2_moe_micro.safetensors");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("2 of 2 cases passed"));
  EXPECT_THAT(result.out, HasSubstr("grad.layers.2.blocks.1.mlp.moe.gates.0.temperature"));
  EXPECT_THAT(result.out, HasSubstr("train_losses"));
}

}  // namespace
}  // namespace flex
