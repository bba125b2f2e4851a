#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// `flexmoe tune`, and what other commands make of its results, as a user calls them.
namespace flex {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class TuneProgram : public ::testing::Test {
 protected:
  [[nodiscard]] std::string file(const std::string& name) const {
    return (directory_.path() / name).string();
  }
  [[nodiscard]] std::string cache() const { return " --cache " + file("tuning.db"); }
  [[nodiscard]] json printed(const std::string& arguments) const {
    const Result result = flexmoe(arguments + cache() + " --json");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out);
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(file(name)) << text; }

  TemporaryDirectory directory_;
};

constexpr const char* kOnNdv4 =
    " --cluster azure_ndv4_a100 --nodes 4 --tokens 16384 --experts 16 --model-dim 2048 --hidden-dim 8192";
constexpr const char* kOnTwoRanks = " --ranks 2 --tokens 64 --model-dim 32 --hidden-dim 32";

TEST_F(TuneProgram, TunesOnASimulatedCluster) {
  const json all = printed(std::string("tune --strategy all --noise 0.05") + kOnNdv4);
  ASSERT_EQ(all["layers"].size(), 1);
  const json& strategies = all["layers"][0]["strategies"];
  ASSERT_EQ(strategies.size(), 5);
  EXPECT_EQ(strategies[0]["strategy"], "exhaustive");
  EXPECT_EQ(strategies[0]["new_evaluations"], all["layers"][0]["candidates"]);
  for (const json& one : strategies) {
    EXPECT_GE(one["regret"].get<double>(), 0);
    EXPECT_LT(one["regret"].get<double>(), 0.1);
  }
  // A second run knows everything.
  const json again = printed(std::string("tune --strategy exhaustive") + kOnNdv4);
  EXPECT_EQ(again["layers"][0]["strategies"][0]["new_evaluations"], 0);
  EXPECT_EQ(again["layers"][0]["strategies"][0]["plan"], strategies[0]["plan"]);
  const json fresh = printed(std::string("tune --strategy exhaustive --fresh") + kOnNdv4);
  EXPECT_EQ(fresh["layers"][0]["strategies"][0]["new_evaluations"], all["layers"][0]["candidates"]);
}

TEST_F(TuneProgram, TunesRealRanksAndOthersUseIt) {
  const json tuned = printed(std::string("tune --strategy exhaustive --precision 0.5") + kOnTwoRanks);
  const json& found = tuned["layers"][0]["strategies"][0];
  EXPECT_TRUE(found["complete"].get<bool>());
  EXPECT_GE(found["regret"].get<double>(), 0);

  const json explained = printed(std::string("explain") + kOnTwoRanks);
  EXPECT_EQ(explained["plan"], found["plan"]);
  EXPECT_EQ(explained["backward_plan"], found["backward_plan"]);
  EXPECT_THAT(explained["why"].get<std::string>(), HasSubstr("came to its end"));
  EXPECT_EQ(explained["cases"][0]["decision"]["strategy"], "exhaustive");

  const json measured = printed(std::string("bench --plan tuned --repeats 2") + kOnTwoRanks);
  ASSERT_EQ(measured["plans"].size(), 1);
  EXPECT_EQ(measured["plans"][0]["plan"], found["plan"]);
  EXPECT_EQ(measured["plans"][0]["backward_plan"], found["backward_plan"]);
}

TEST_F(TuneProgram, ExplainsWithoutACache) {
  const Result result = flexmoe(std::string("explain --memory-limit 6GiB") + kOnNdv4 + cache());
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("there is no tuning cache"),
                                HasSubstr("runs r1 d1 linear: the cache has no decision"),
                                HasSubstr("capacity bucket 16 (2048 to 2175)"),
                                HasSubstr("need more on a rank than --memory-limit 6.44 GB"),
                                HasSubstr("r0 exchanges no tokens")));
  const Result tuned = flexmoe("bench --plan tuned --ranks 2" + cache());
  EXPECT_EQ(tuned.exit_code, 2);
  EXPECT_THAT(tuned.err, HasSubstr("there is no tuning cache"));
}

TEST_F(TuneProgram, AnEnvironmentVariablePinsPlans) {
  const Result result = flexmoe(std::string("explain") + kOnTwoRanks + cache(), "FLEX_PLAN='r1 d2'");
  EXPECT_THAT(result.out, HasSubstr("runs r1 d2 linear: FLEX_PLAN pins it"));
  const Result wrong = flexmoe(std::string("explain") + kOnTwoRanks + cache(), "FLEX_PLAN=fast");
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, AllOf(HasSubstr("FLEX_PLAN"), HasSubstr("fast")));
}

TEST_F(TuneProgram, GridsAreEveryCombination) {
  write("grid.json", R"({"tokens": [4096, 16384], "hidden_dim": [2048, 8192], "capacity_factor": 2})");
  const json tuned =
      printed("tune --grid " + file("grid.json") + " --cluster dgx_h100 --nodes 2 --experts 16");
  ASSERT_EQ(tuned["layers"].size(), 4);
  EXPECT_EQ(tuned["layers"][1]["tokens_per_rank"], 4096);
  EXPECT_EQ(tuned["layers"][1]["hidden_dim"], 8192);
  EXPECT_EQ(tuned["layers"][2]["capacity"], 4096);
  EXPECT_GE(tuned["best_static"]["total_us"].get<double>(), tuned["best_static"]["tuned_us"].get<double>());
}

// A search of many seconds is stopped after two.
TEST_F(TuneProgram, CtrlCKeepsWhatWasMeasured) {
  const std::string command =
      "tune --ranks 2 --tokens 4096 --strategy exhaustive --precision 0.0001" + cache();
  const Result stopped = flexmoe(command, "timeout --preserve-status -s INT 2");
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_THAT(stopped.out, AllOf(HasSubstr("cut short"), HasSubstr("the same command goes on from here")));
  const json cases = json::parse(flexmoe("cache list --json" + cache()).out);
  EXPECT_GE(cases.size(), 2);  // the default plan, forward and backward
}

TEST_F(TuneProgram, MistakesAreToldInOneLine) {
  const auto error = [&](const std::string& arguments) {
    const Result result = flexmoe(arguments + cache());
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(error("tune --strategy modle"), HasSubstr("did you mean model?"));
  EXPECT_THAT(error("tune --memory-limit 1kB --cluster dgx_h100"),
              AllOf(HasSubstr("--memory-limit 1.02 kB"), HasSubstr("the default plan r1 d1 linear needs")));
  EXPECT_THAT(error("tune --nodes 4"), HasSubstr("--cluster"));
  EXPECT_THAT(error("tune --cluster dgx_h100 --ranks 4"), HasSubstr("--ranks"));
  write("grid.json", R"({"tokens": []})");
  EXPECT_THAT(error("tune --grid " + file("grid.json")), HasSubstr("grid.json: tokens: is an empty list"));
  write("grid.json", R"({"token": 3})");
  EXPECT_THAT(error("tune --grid " + file("grid.json")), HasSubstr("tokens"));
  write("grid.json", R"({"dtype": ["fp32", "fp31"]})");
  EXPECT_THAT(error("tune --grid " + file("grid.json")), HasSubstr("\"fp31\" is none of fp32"));
}

}  // namespace
}  // namespace flex
