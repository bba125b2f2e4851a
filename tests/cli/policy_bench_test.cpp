#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// flexmoe bench --policy.
namespace flex {
namespace {

using ::testing::HasSubstr;

const std::string kLayer =
    "bench --ranks 2 --experts 4 --top-k 1 --tokens 64 --model-dim 16 --hidden-dim 16 ";
const std::string kBench = kLayer + "--iterations 6 --drift 2 ";

TEST(PolicyBench, RunsPoliciesSideBySide) {
  const Result result =
      flexmoe(kBench + "--policy 'static:r0,static:r1 d2 linear/r1 d4 linear,online' --json");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["ranks"], 2);
  EXPECT_EQ(json["iterations"], 6);
  EXPECT_EQ(json["capacity_factor"], 0);
  EXPECT_LT(json["least_capacity"], json["largest_capacity"]);
  ASSERT_EQ(json["policies"].size(), 3);
  const auto& pair = json["policies"][1];
  EXPECT_EQ(pair["policy"], "static:r1 d2 linear/r1 d4 linear");
  EXPECT_GT(pair["total_us"], 0);
  EXPECT_EQ(pair["plan_changes"], 0);
  ASSERT_EQ(pair["plans"].size(), 1);
  EXPECT_EQ(pair["plans"][0]["forward"], "r1 d2 linear");
  EXPECT_EQ(pair["plans"][0]["backward"], "r1 d4 linear");
  EXPECT_EQ(pair["plans"][0]["iterations"], 6);
  EXPECT_FALSE(pair.contains("explored_iterations"));
  EXPECT_GE(json["policies"][2]["explored_iterations"], 0);
}

TEST(PolicyBench, PrintsATable) {
  const Result result = flexmoe(kBench + "--policy static:r0", "FLEX_PLAN='r1 d2'");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(
      result.out,
      HasSubstr(
          "6 training iterations of each policy in turns, dropless, routing that drifts by 2, capacity "));
  EXPECT_THAT(result.out, HasSubstr("0.0%"));
  EXPECT_THAT(result.out, HasSubstr("r1 d2 linear (6)")) << "FLEX_PLAN pins a plan";
}

TEST(PolicyBench, SaysWhatCannotBe) {
  const auto error = [](const std::string& arguments) {
    const Result result = flexmoe(kLayer + arguments);
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  };
  EXPECT_THAT(error("--policy fast"), HasSubstr("\"fast\" is no policy"));
  EXPECT_THAT(error("--policy model --drift 5"),
              HasSubstr("the capacity drifts by a factor of 5; with 4 experts and k = 1 it is from 1 to 4"));
  EXPECT_THAT(error("--policy model --steps 0"), HasSubstr("--steps"));
  EXPECT_THAT(error("--policy model --imbalance hot_expert"),
              HasSubstr("--imbalance hot_expert: with --policy it is none, W0 to W7 or drift"));
  EXPECT_THAT(error("--imbalance W7"),
              HasSubstr("--imbalance W7: without --policy it is none, hot_expert or half_empty"));
}

TEST(PolicyBench, RecordsTheRunOfOnePolicy) {
  const TemporaryDirectory directory;
  const std::string file = (directory / "run.jsonl.gz").string();
  const Result result = flexmoe(kBench + "--policy static:r0 --record " + file);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("recorded 12 passes in " + file + "\n"));
  const Result inspected = flexmoe("trace inspect --json " + file);
  ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, HasSubstr("flexmoe bench --policy static:r0"));
  const Result checked = flexmoe("trace check " + file);
  EXPECT_EQ(checked.exit_code, 0) << checked.err;
}

TEST(PolicyBench, AdaptsToANamedImbalanceAndItsTraceReplays) {
  const TemporaryDirectory directory;
  const std::string file = (directory / "burst.jsonl").string();
  const Result result = flexmoe(kLayer + "--steps 40 --imbalance W7 --policy online --json --record " + file);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["routing"], "routing W7");
  EXPECT_EQ(json["least_capacity"], 16);
  EXPECT_GT(json["largest_capacity"], 16);
  const Result replayed = flexmoe("replay " + file + " --cluster cpu_host --json");
  ASSERT_EQ(replayed.exit_code, 0) << replayed.err;
  EXPECT_NE(nlohmann::json::parse(replayed.out).dump().find("static"), std::string::npos);
}

TEST(PolicyBench, SaysWhatCannotBeRecorded) {
  const auto error = [](const std::string& arguments, int exit_code) {
    const Result result = flexmoe(kLayer + "--iterations 2 " + arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    return result.err;
  };
  EXPECT_THAT(error("--policy model,online --record x.jsonl", 2),
              HasSubstr("--record x.jsonl: one file holds the run of one policy; --policy names 2"));
  EXPECT_THAT(error("--record x.jsonl", 2),
              HasSubstr("--record x.jsonl: bench records the run of a policy; name one with --policy"));
  EXPECT_THAT(error("--policy model --record /nowhere/x.jsonl", 1), HasSubstr("/nowhere/x.jsonl"));
}

}  // namespace
}  // namespace flex
