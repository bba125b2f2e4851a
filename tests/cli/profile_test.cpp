#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// flexmoe profile as a user calls it, and simulate --validate from what it recorded.
namespace flex {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ProfileProgram : public ::testing::Test {
 protected:
  [[nodiscard]] std::string file(const std::string& name) const { return (directory_ / name).string(); }
  [[nodiscard]] std::string cache() const { return " --cache " + file("tuning.db"); }
  [[nodiscard]] Result profile(const std::string& options, const std::string& before = {}) const {
    return flexmoe("profile --ranks 1 --plans 1 --budget 0.1 " + options + cache(), before);
  }

 private:
  TemporaryDirectory directory_;
};

TEST_F(ProfileProgram, KeepsSamplesThatOthersPredictWith) {
  const Result first = profile("--shapes 3 --output " + file("here.json"));
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out,
              AllOf(HasSubstr("3 layer(s) measured, 0 skipped"), HasSubstr("expert_ffn_backward_data"),
                    HasSubstr("Errors of samples that were held out")));
  const json calibration = json::parse(read_all(file("here.json")));
  EXPECT_EQ(calibration["cluster"], "cpu_host");
  EXPECT_EQ(calibration["fitted"], true);
  const Result explained = flexmoe("explain --ranks 1 --tokens 64" + cache());
  EXPECT_THAT(explained.out, HasSubstr("parameters of cpu_host: Fitted to "));
  const Result other = flexmoe("explain --ranks 2 --tokens 64" + cache());
  EXPECT_THAT(other.out, HasSubstr("parameters of cpu_host: Generic")) << "two ranks are another environment";
  EXPECT_EQ(flexmoe("cache verify" + cache()).exit_code, 0);
}

TEST_F(ProfileProgram, ResumeMeasuresWhatIsMissing) {
  ASSERT_EQ(profile("--shapes 2").exit_code, 0);
  const json resumed = json::parse(profile("--shapes 3 --resume --json").out);
  EXPECT_EQ(resumed["measured"], 1);
  EXPECT_EQ(resumed["skipped"], 2);
  EXPECT_FALSE(resumed["operations"].empty());
  const json again = json::parse(profile("--shapes 3 --resume --json").out);
  EXPECT_EQ(again["measured"], 0);
  EXPECT_EQ(again["samples"], resumed["samples"]);
  EXPECT_EQ(again["operations"], resumed["operations"]) << "the same samples, the same fit";
}

TEST_F(ProfileProgram, CtrlCKeepsTheLayersThatAreDone) {
  const Result stopped = flexmoe("profile --ranks 1 --plans 1 --shapes 100 --budget 50 --json" + cache(),
                                 "timeout --preserve-status -s INT 2");
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  const json report = json::parse(stopped.out);
  EXPECT_EQ(report["interrupted"], true);
  ASSERT_GE(report["measured"], 1);
  // The first layers are the same however many are drawn.
  const int kept = report["measured"];
  const json resumed = json::parse(profile("--resume --json --shapes " + std::to_string(kept + 1)).out);
  EXPECT_EQ(resumed["skipped"], kept);
  EXPECT_EQ(resumed["measured"], 1);
}

TEST_F(ProfileProgram, MistakesAreToldInOneLine) {
  for (const auto& [options, words] :
       {std::pair{"--dtype bf16", "--dtype bf16 is not computed on cpu; use fp32 or fp64"},
        std::pair{"--dtype fp31", "fp31"}, std::pair{"--shapes 0", "--shapes"}}) {
    const Result result = profile(options);
    EXPECT_EQ(result.exit_code, 2) << options;
    EXPECT_THAT(result.err, HasSubstr(words));
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  }
}

TEST_F(ProfileProgram, ARecordedValidationGivesTheSameReportAgain) {
  const Result measured =
      flexmoe("simulate --validate --ranks 1 --budget 1 --pairs 3 --json --record " + file("records"));
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  const Result again =
      flexmoe("simulate --validate --json --recording " + file("records/validation_cpu_w1.json"));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  const json before = json::parse(measured.out);
  const json after = json::parse(again.out);
  EXPECT_EQ(after["held_out_operations"], before["held_out_operations"]) << "samples are written to the ns";
  EXPECT_EQ(after["passes"].size(), 6U);
  EXPECT_NEAR(after["mean_error"].get<double>(), before["mean_error"].get<double>(),
              0.05);  // 0.1 us are written
  const Result both = flexmoe("simulate --validate --recording x --record y");
  EXPECT_EQ(both.exit_code, 2);
}

}  // namespace
}  // namespace flex
