#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/kept_run.h"
#include "tests/cli/program.h"

/// `flexmoe eval` as a user calls it.
namespace flex::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class EvalProgram : public ::testing::Test {
 protected:
  static nlohmann::json json_of(const std::string& arguments) {
    const Result result = flexmoe("eval --json " + arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? nlohmann::json::parse(result.out) : nlohmann::json();
  }
  // The counts, without what the clock and rounding say.
  static nlohmann::json counts_of(nlohmann::json json) {
    for (const char* key : {"images_per_s", "cross_entropy", "parameters", "step"}) json.erase(key);
    return json;
  }
  static std::string error(const std::string& arguments) {
    const Result result = flexmoe("eval " + arguments);
    EXPECT_EQ(result.exit_code, 2) << result.out;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
    return result.err;
  }

  KeptRun run_;
};

TEST_F(EvalProgram, SaysHowGoodARunIs) {
  const Result result = flexmoe("eval " + run_.path());
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("model: " + run_.path("checkpoints/step_00000002") + " (step 2)\n"));
  EXPECT_THAT(result.out, HasSubstr("\n13 images: top-1 "));
  EXPECT_THAT(result.out, HasSubstr(run_.class_names()[4]));
  EXPECT_THAT(result.out, HasSubstr(" images/s\n"));
  EXPECT_THAT(result.out, Not(HasSubstr("could not be read")));
}

TEST_F(EvalProgram, CountsTheSameOnAnyRanks) {
  const nlohmann::json one = json_of(run_.path() + " --batch 4");
  EXPECT_EQ(one["samples"], 13);
  EXPECT_EQ(one["complete"], true);
  EXPECT_EQ(one["unreadable"], 0);
  EXPECT_EQ(one["top5"], 1);  // of five classes
  EXPECT_EQ(one["step"], 2);
  EXPECT_EQ(one["classes"][0]["class"], run_.class_names()[0]);
  EXPECT_GT(one["images_per_s"], 0);
  for (const char* ranks : {"2", "4"}) {
    const nlohmann::json other = json_of(run_.path() + " --batch 4 --ranks " + ranks);
    EXPECT_EQ(counts_of(other), counts_of(one)) << ranks;
    EXPECT_NEAR(other["cross_entropy"].get<double>(), one["cross_entropy"].get<double>(), 1e-5);
  }
}

// Of 7 two ranks make 8.
TEST_F(EvalProgram, RanksNeedNotDivideTheBatchOfTraining) {
  ModelFile file = run_.file();
  file.training.batch_size = 7;
  const std::string config = run_.write(file, "seven.json");
  EXPECT_EQ(json_of(run_.path() + " --ranks 2 --config " + config)["samples"], 13);
}

TEST_F(EvalProgram, ReadsOtherProgramsNames) {
  const nlohmann::json expected = json_of(run_.path());
  for (const char* convention : {"timm", "swin_moe", "swin_moe --ranks 2"}) {
    const std::string file = run_.path("converted.safetensors");
    EXPECT_EQ(
        flexmoe("checkpoint convert " + run_.path("checkpoints") + " -o " + file + " --to " + convention)
            .exit_code,
        0);
    const nlohmann::json json = json_of(file + " --config " + run_.path("config.json"));
    EXPECT_EQ(json["cross_entropy"], expected["cross_entropy"]) << convention;
    EXPECT_EQ(counts_of(json), counts_of(expected)) << convention;
    EXPECT_FALSE(json.contains("step"));
  }
}

TEST_F(EvalProgram, InfersAsOptionsSay) {
  const double cross_entropy = json_of(run_.path())["cross_entropy"];
  for (const char* option : {"--average", "--image-size 128", "--top-k 2", "--capacity-factor 0.25",
                             "--capacity-factor 0.25 --token-order"}) {
    const nlohmann::json json = json_of(run_.path() + " " + option);
    EXPECT_EQ(json["samples"], 13) << option;
    EXPECT_NE(json["cross_entropy"].get<double>(), cross_entropy) << option;
  }
  const auto short_of = [&](const std::string& order) {
    return json_of(run_.path() + " --capacity-factor 0.25 " + order)["cross_entropy"].get<double>();
  };
  EXPECT_EQ(short_of("--batch-prioritized"), short_of(""));  // the model's own order
  EXPECT_NE(short_of("--token-order"), short_of(""));
  EXPECT_EQ(json_of(run_.path() + " --plan 'r1 d2 linear' --ranks 2")["samples"], 13);
}

TEST_F(EvalProgram, FitsALinearProbe) {
  const nlohmann::json probe = json_of(run_.path() + " --probe-shots 5")["probe"];
  EXPECT_EQ(probe["shots"], 5);
  EXPECT_EQ(probe["top5"], 1);
  EXPECT_GE(probe["top1"], 0);
  EXPECT_EQ(json_of(run_.path() + " --probe-shots 5 --ranks 2")["probe"], probe);
  EXPECT_THAT(flexmoe("eval --probe-shots 1 " + run_.path()).out,
              HasSubstr("\nlinear probe, 1 image(s) of each class: top-1 "));
  EXPECT_THAT(error(run_.path() + " --probe-shots 6"),
              HasSubstr("class 0 has 5 samples, fewer than the 6 shots"));
}

// After three seconds of minutes.
TEST_F(EvalProgram, StopsWhenItIsInterrupted) {
  ModelFile file = run_.file();
  file.data.procedural.num_validation_images = 1'000'000;
  const std::string config = run_.write(file, "long.json");
  const Result result =
      flexmoe("eval --ranks 2 " + run_.path() + " --config " + config, "timeout --preserve-status -s INT 3");
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr(" of 1000000 images\n"));
}

TEST_F(EvalProgram, RefusesInOneLine) {
  EXPECT_THAT(error(run_.path("nothing")),
              HasSubstr("nothing: there is no such model; it is the folder of a run, a checkpoint, or a "
                        ".safetensors file"));
  EXPECT_THAT(error(run_.path() + " --config " + run_.path("missing.json")),
              HasSubstr("--config: File does not exist: " + run_.path("missing.json")));
  ModelFile other = run_.file();
  other.model.num_classes = 7;
  other.data.procedural.num_classes = 7;
  EXPECT_THAT(error(run_.path() + " --config " + run_.write(other, "seven.json")),
              HasSubstr("head.fc.weight is [5, 64], expected [7, 64]"));
  EXPECT_THAT(error(run_.path() + " --ranks 2 --batch 3"),
              HasSubstr("--batch 3: must be a multiple of the 2 ranks"));
  EXPECT_THAT(error(run_.path() + " --data floder:x"), HasSubstr("did you mean folder?"));
  EXPECT_THAT(error(run_.path() + " --data folder:" + run_.path("none")), HasSubstr("is no folder"));
  EXPECT_THAT(error(run_.path() + " --top-k 5"), HasSubstr("with 4 experts it must be from 1 to 4"));
  EXPECT_THAT(error(run_.path() + " --image-size 65"), HasSubstr("must be a multiple of 4, such as 68"));
  EXPECT_THAT(error(run_.path() + " --token-order --batch-prioritized"), HasSubstr("--batch-prioritized"));
  EXPECT_THAT(error(run_.path() + " --device gpu"), HasSubstr("gpu"));
  std::filesystem::rename(run_.path("checkpoints"), run_.path("other"));
  EXPECT_THAT(error(run_.path("other")),
              HasSubstr("does not tell its images; name them with --data, such as --data folder:PATH"));
}

#ifndef FLEX_HAS_CUDA
TEST_F(EvalProgram, NamesADeviceThatIsNotThere) {
  const Result result = flexmoe("eval " + run_.path() + " --device cuda:0");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "flexmoe: cuda:0: this build is CPU-only; reconfigure with -DFLEX_CUDA=ON\n");
}
#endif

}  // namespace
}  // namespace flex::testing
