#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// flexmoe replay as a user calls it.
namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// A trace of 16 ranks, made once.
const std::string& trace() {
  static const TemporaryDirectory directory;
  static const std::string file = [] {
    const std::string path = directory.path() / "drift.jsonl.gz";
    const Result made = flexmoe(
        "trace generate --workload drift --seed 7 --ranks 16 --experts 8 --tokens 256 --capacity-factor 0 "
        "--model-dim 512 --hidden-dim 2048 --dtype bf16 --layers 2 --steps 12 -o " +
        path);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return path;
  }();
  return file;
}

Result replay(const std::string& options) { return flexmoe("replay " + trace() + " " + options); }

const std::string kNdv4 = "--cluster azure_ndv4_a100 ";

TEST(ReplayCommand, PrintsARowForEachPolicy) {
  const Result text = replay(kNdv4);
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_EQ(text.err, "");
  for (const char* word :
       {"24 iterations of 2 layer(s) on 16 ranks", "16 ranks on 2 node(s)", "static:r1 d1 linear",
        "best-static", "dictionary", "model", "online", "oracle", "regret", "±", "best-static is static:"})
    EXPECT_THAT(text.out, HasSubstr(word));
  EXPECT_THAT(text.out, Not(HasSubstr("recorded  "))) << "nothing ran";
}

TEST(ReplayCommand, JsonIsTheFileThatIsWritten) {
  const TemporaryDirectory directory;
  const std::string file = directory.path() / "replay.json";
  const Result json = replay(kNdv4 + "--policy model,oracle --json -o " + file);
  EXPECT_EQ(json.exit_code, 0) << json.err;
  EXPECT_EQ(json.out, read_all(file));
  const auto document = nlohmann::json::parse(json.out);
  EXPECT_EQ(document["flexmoe"], "replay");
  const auto& policies = document["scenarios"][0]["policies"];
  ASSERT_EQ(policies.size(), 3U);
  EXPECT_EQ(policies[0]["policy"], "static:r1 d1 linear");
  EXPECT_EQ(policies[2]["regret_us"], 0);
  EXPECT_GE(policies[1]["regret_us"], 0);
}

TEST(ReplayCommand, IsTheSameWhateverTheJobs) {
  const std::string options = kNdv4 + "--noise 0.05 --model-error 0.1 --compare k=1 --json ";
  const std::string one = replay(options + "--jobs 1").out;
  EXPECT_EQ(replay(options + "--jobs 4").out, one);
  EXPECT_EQ(replay(options).out, one);
  EXPECT_NE(replay(options + "--seed 2").out, one);
}

TEST(ReplayCommand, SetsAndCompares) {
  const Result text =
      replay(kNdv4 + "--set k=1 capacity_factor=1.0 --compare 'capacity_factor=0 nodes=4' --policy model");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* word : {"with k=1 capacity_factor=1.0", "choices are dropped (", "32 ranks on 4 node(s)",
                           "with k=1 capacity_factor=0 nodes=4", "nothing is dropped", "dropped choices"})
    EXPECT_THAT(text.out, HasSubstr(word));
  const auto json = nlohmann::json::parse(
      replay(kNdv4 + "--set k=1 --set capacity_factor=1.0 --compare nodes=4 --policy model --json").out);
  EXPECT_EQ(json["scenarios"][1]["changes"],
            nlohmann::json::array({"k=1", "capacity_factor=1.0", "nodes=4"}));
  EXPECT_EQ(json["scaling"].size(), 4U);
}

TEST(ReplayCommand, TheLimitOfMemoryIsKept) {
  const auto oracle_us = [](const std::string& more) {
    const auto json = nlohmann::json::parse(replay(kNdv4 + "--policy oracle --json " + more).out);
    return json["scenarios"][0]["policies"][1]["total_us"].get<double>();
  };
  EXPECT_GT(oracle_us("--memory-limit 1MiB"), oracle_us("")) << "only the default plan runs";
}

TEST(ReplayCommand, DrawsTheIterationThatIsAskedFor) {
  const auto json =
      nlohmann::json::parse(replay(kNdv4 + "--policy 'static:r2 d2 linear' --timeline-policy "
                                           "'static:r2 d2 linear' --timeline-step 5 --timeline-layer 1 "
                                           "--json")
                                .out);
  const auto& timeline = json["scenarios"][0]["timeline"];
  EXPECT_EQ(timeline["step"], 5);
  EXPECT_EQ(timeline["layer"], 1);
  EXPECT_EQ(timeline["plans"], "r2 d2 linear");
}

/// `records` behind the header of the trace, without checksums.
std::string with_records(const std::string& folder, const std::vector<std::string>& records) {
  const std::string cut = folder + "/cut.jsonl";
  EXPECT_EQ(flexmoe("trace cut " + trace() + " --steps 0 -o " + cut).exit_code, 0);
  std::ifstream in(cut);
  std::string header;
  std::getline(in, header);
  const std::string path = folder + "/plans.jsonl";
  std::ofstream out(path);
  out << header << "\n";
  for (const std::string& record : records) out << record << "\n";
  out << R"({"records":)" << records.size() << R"(,"dropped":0})"
      << "\n";
  return path;
}

TEST(ReplayCommand, ChecksThePlansOfARun) {
  const TemporaryDirectory directory;
  const auto run_of = [&](const std::string& plan) {
    return with_records(
        directory.path(),
        {R"({"step":0,"layer":0,"pass":"forward","plan":"r1 d1 linear","duration_ns":5,"needed_capacity":2,"counts":[[3,2,2]]})",
         R"({"step":1,"layer":0,"pass":"forward","plan":")" + plan +
             R"(","duration_ns":5,"needed_capacity":2,"counts":[[3,2,2]]})"});
  };
  const std::string check = " " + kNdv4 + "--check-plans 'static:r1 d1 linear'";
  const Result same = flexmoe("replay " + run_of("r1 d1 linear") + check);
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(same.out, "2 of 2 iterations ran what static:r1 d1 linear chooses\n");
  const Result other = flexmoe("replay " + run_of("r2 d1 linear") + check);
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.out, HasSubstr("1 of 2 iterations"));
  EXPECT_THAT(other.out, HasSubstr("step 1, layer 0: ran r2 d1 linear, chooses r1 d1 linear"));
}

TEST(ReplayCommand, WhatIsReadOfADamagedTraceIsReplayed) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() / "cut.jsonl";
  EXPECT_EQ(flexmoe("trace cut " + trace() + " --steps 0..3 -o " + path).exit_code, 0);
  const std::string text = read_all(path);
  std::ofstream(path) << text.substr(0, text.size() * 2 / 3);
  const Result result = flexmoe("replay " + path + " " + kNdv4 + "--policy model --json");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("before it are used"));
  EXPECT_TRUE(nlohmann::json::parse(result.out)["trace"]["damage"].is_string());
}

TEST(ReplayCommand, BadInputIsOneLineAndExit2) {
  struct BadCase {
    std::string options;
    const char* words;
  };
  for (const BadCase& bad :
       std::initializer_list<BadCase>{{"", "--cluster says where the trace is replayed"},
                                      {"--cluster nope", "built in are azure_ndv4_a100"},
                                      {kNdv4 + "--nodes 3", "split cannot lay 16 ranks on 24"},
                                      {kNdv4 + "--policy onlin", "did you mean online?"},
                                      {kNdv4 + "--policy static", "needs a plan"},
                                      {kNdv4 + "--set k", "it is KEY=VALUE"},
                                      {kNdv4 + "--set k=9", "with 8 experts it is from 1 to 8"},
                                      {kNdv4 + "--set inter_node_bandwidth=50", "such as 0.5x"},
                                      {kNdv4 + "--compare k=1 --compare dtype=int8", "dtype=int8"},
                                      {kNdv4 + "--compare k=99", "scenario 'k=99': "},
                                      {kNdv4 + "--compare ''", "has changes"},
                                      {kNdv4 + "--timeline-step 99", "the trace has none"},
                                      {kNdv4 + "--policy model --timeline-policy oracle", "name it, too"},
                                      {kNdv4 + "--check-plans model", "does not say which plans ran"},
                                      {kNdv4 + "--nodes 4 --check-plans model", "the run had 16 ranks"},
                                      {kNdv4 + "--cache nope.db", "nope.db"},
                                      {kNdv4 + "--noise -1", "--noise"},
                                      {kNdv4 + "--jobs -1", "--jobs"}}) {
    const Result result = replay(bad.options);
    EXPECT_EQ(result.exit_code, 2) << bad.options << ": " << result.err;
    EXPECT_THAT(result.err, HasSubstr(bad.words)) << bad.options;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(flexmoe("replay nope.jsonl " + kNdv4).exit_code, 1) << "a file that is not there";
}

TEST(ReplayCommand, HelpHasExamplesAndAllChanges) {
  const Result help = flexmoe("replay --help");
  EXPECT_EQ(help.exit_code, 0);
  for (const char* word : {"Examples:", "inter_node_bandwidth=0.5x", "reshard=tile", "--check-plans"})
    EXPECT_THAT(help.out, HasSubstr(word));
}

}  // namespace
}  // namespace flex
