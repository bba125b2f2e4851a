#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
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

TEST(ModelProgram, TrainsOnRanksAsOnOne) {
  const auto losses = [](const std::string& options) {
    const Result result =
        flexmoe("train --json --steps 3 " + options + " " + kConfigs + "swinv2_moe_micro.json");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    std::vector<double> values;
    const nlohmann::json json = nlohmann::json::parse(result.out);
    for (const auto& step : json["steps"]) values.push_back(step["loss"]);
    return values;
  };
  const std::vector<double> alone = losses("");
  ASSERT_EQ(alone.size(), 3U);
  const std::vector<double> policy = losses("--ranks 2 --policy online --cache none.db");
  // The capacity is fixed, so that ranks drop other tokens than one rank does; the first loss differs by that
  // alone.
  EXPECT_NEAR(policy[0], alone[0], 0.05 * alone[0]);
}

TEST(ModelProgram, WritesALineOfMetricsForEachStep) {
  const TemporaryDirectory directory;
  const std::string metrics = (directory / "metrics.jsonl").string();
  const Result result = flexmoe("train --json --steps 3 --ranks 2 --metrics " + metrics + " " + kConfigs +
                                "swinv2_moe_micro.json");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json steps = nlohmann::json::parse(result.out)["steps"];
  std::ifstream file(metrics);
  std::size_t count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const nlohmann::json json = nlohmann::json::parse(line);
    for (const auto& [key, value] : json.items()) EXPECT_TRUE(value.is_primitive()) << key;
    EXPECT_EQ(json["step"], count + 1);
    for (const char* key : {"loss", "cross_entropy", "auxiliary_loss", "gradient_norm", "learning_rate"})
      EXPECT_EQ(json[key], steps.at(count)[key]) << key;
    EXPECT_GT(json["images_per_s"], 0);
    EXPECT_EQ(json["plans"], "r1 d1 linear");
    EXPECT_EQ(json.contains("moe_share"), count == 1);  // of the sampled step
  }
  EXPECT_EQ(count, 3U);
}

TEST(ModelProgram, RecordsATrainingRun) {
  const TemporaryDirectory directory;
  const std::string trace = (directory / "run.jsonl").string();
  const Result result =
      flexmoe("train --steps 4 --ranks 2 --record " + trace + " " + kConfigs + "swinv2_moe_micro.json");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  // Two MoE layers, forward and backward, four steps.
  EXPECT_THAT(result.err, HasSubstr("recorded 16 passes"));
  EXPECT_EQ(flexmoe("trace check " + trace).exit_code, 0);
}

TEST(ModelProgram, TimesBothPasses) {
  for (const char* pass : {"training", "inference"}) {
    const Result result = flexmoe(std::string("bench --json --repeats 2 --ranks 2 --pass ") + pass +
                                  " --model " + kConfigs + "swinv2_moe_micro.json");
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const nlohmann::json json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["step_us"].size(), 2U);
    EXPECT_GT(json["images_per_s"], 0);
    double shares = 0;
    for (const auto& operation : json["operations"]) {
      shares += operation["share"].get<double>();
      EXPECT_GT(operation["bytes"], 0) << operation["name"];
    }
    EXPECT_NEAR(shares, 1, 1e-9);
    EXPECT_EQ(json["optimizer_bytes"] == 0, std::string(pass) == "inference");
  }
}

TEST(ModelProgram, RefusesWhatDoesNotGoTogether) {
  const auto error = [](const std::string& arguments) {
    const Result result = flexmoe(arguments);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(error("bench --pass inference"), HasSubstr("--pass inference is of a model"));
  EXPECT_THAT(error("train --ranks 3 " + kConfigs + "swinv2_moe_micro.json"),
              HasSubstr("training.batch_size: is 16; it must be a multiple of the 3 ranks"));
  EXPECT_THAT(error("train --policy online " + kConfigs + "swinv2_tiny.json"),
              HasSubstr("has no MoE layers"));
}

}  // namespace
}  // namespace flex
