#include "tests/cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"

/// The program as a user calls it: its words, its numbers, its exit codes.
namespace flex {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string golden(const std::string& name) { return std::string(FLEX_SOURCE_DIR) + "/tests/golden/" + name; }

TEST(Program, SaysWhatItIs) {
  EXPECT_THAT(flexmoe("--version").out, HasSubstr("flexmoe 0."));
  const Result help = flexmoe("--help");
  EXPECT_EQ(help.exit_code, 0);
  for (const char* command : {"doctor", "bench", "simulate", "verify", "demo", "cluster", "cache", "trace"})
    EXPECT_THAT(help.out, HasSubstr(command));
}

TEST(Program, DoctorNamesBuildAndMachine) {
  const Result text = flexmoe("doctor");
  EXPECT_EQ(text.exit_code, 0);
  for (const char* subject :
       {"build", "processor", "memory", "in-process ranks", "MPI ranks", "NCCL", "CUPTI"}) {
    EXPECT_THAT(text.out, HasSubstr(subject));
  }
  const auto json = nlohmann::json::parse(flexmoe("doctor --json").out);
  EXPECT_GE(json.size(), 7);
  EXPECT_EQ(json[0]["subject"], "build");
}

TEST(Program, VerifyPassesOnTheReferenceFiles) {
  const Result layer = flexmoe("verify " + golden("moe_layer.safetensors"));
  EXPECT_EQ(layer.exit_code, 0) << layer.out << layer.err;
  EXPECT_THAT(layer.out, HasSubstr("16 of 16 cases passed"));
  const Result curve = flexmoe("verify --json " + golden("moe_train_top2.safetensors"));
  EXPECT_EQ(curve.exit_code, 0);
  const auto json = nlohmann::json::parse(curve.out);
  EXPECT_EQ(json[0]["passed"], true);
  EXPECT_LE(json[0]["outputs"][0]["error"].get<double>(), 1e-4);
}

TEST(Program, BenchMeasuresEveryPlan) {
  const Result result = flexmoe(
      "bench --ranks 4 --ranks-per-node 2 --experts 2 --tokens 64 --model-dim 16 --hidden-dim 32 --repeats 2 "
      "--json");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_EQ(json["plans"].size(), 17);  // r0 once; r1 and r2 with four d and two algorithms
  for (const auto& plan : json["plans"]) {
    EXPECT_GT(plan["median_us"].get<double>(), 0);
    EXPECT_EQ(plan["moved_bytes"], plan["expected_bytes"]) << plan["plan"];
    EXPECT_EQ(plan["loss"], json["plans"][0]["loss"]) << "the plan must not change the loss";
  }
}

TEST(Program, BenchTablesOnePlanAndItsDrops) {
  const Result result = flexmoe(
      "bench --ranks 2 --tokens 64 --model-dim 8 --hidden-dim 8 --repeats 2 --capacity-factor 0.5 "
      "--plan 'r1 d2 linear' --pass forward");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("r1 d2 linear"));
  EXPECT_THAT(result.out, HasSubstr("50.0%"));  // k = 2 of 2 experts at f = 0.5: half of the choices
  EXPECT_THAT(result.out, HasSubstr("equal"));
}

TEST(Program, DemoTrainsWithOtherPlansAndTheSameLoss) {
  const Result result = flexmoe("demo --steps 12 " + golden("moe_train_top1_aux.safetensors"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("r0 d1 linear"));
  EXPECT_THAT(result.out, HasSubstr("r1 d8 2dh"));
  EXPECT_THAT(result.out, HasSubstr("All plans"));
  const std::size_t at = result.out.find("largest difference ");
  ASSERT_NE(at, std::string::npos);
  EXPECT_LT(std::stod(result.out.substr(at + 19)), 1e-5);
}

TEST(Program, DemoRecordsItsTraining) {
  const TemporaryDirectory directory;
  const std::string file = (directory / "demo.jsonl").string();
  const Result result =
      flexmoe("demo --steps 3 --record " + file + " " + golden("moe_train_top2.safetensors"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("recorded 6 passes in " + file + "\n")) << "of the run on several ranks";
  const Result inspected = flexmoe("trace inspect " + file);
  ASSERT_EQ(inspected.exit_code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, HasSubstr("4 rank(s), 2 on a node\n6 record(s), steps 0 to 2, 0 dropped"));
}

std::string cluster_file(const std::string& name) {
  return std::string(FLEX_SOURCE_DIR) + "/costmodel/clusters/" + name + ".json";
}

TEST(Program, ClusterListsWhatIsBuiltIn) {
  const Result text = flexmoe("cluster list");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, ContainsRegex("azure_ndv4_a100 +1..256 +8 +NVIDIA A100-SXM4-80GB +300 +25\n"));
  EXPECT_THAT(text.out, ContainsRegex("one_h200 +1..1 +1 +NVIDIA H200 +2400 +-\n"));
  const auto json = nlohmann::json::parse(flexmoe("cluster list --json").out);
  ASSERT_EQ(json.size(), 6);
  EXPECT_EQ(json[0]["name"], "azure_ndv4_a100");
  EXPECT_EQ(json[0]["max_nodes"], 256);
  EXPECT_EQ(json[0]["inter_node_GBps"], 25);
}

TEST(Program, ClusterShowsFiguresWithTheirSources) {
  const Result text = flexmoe("cluster show azure_ndv4_a100 --nodes 32");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("256 ranks on 32 of 1..256 nodes"));
  EXPECT_THAT(text.out, ContainsRegex("device.peak_tf32_TFLOPs +156  NVIDIA A100 80GB SXM datasheet"));
  EXPECT_EQ(flexmoe("cluster show " + cluster_file("azure_ndv4_a100") + " --nodes 32").out, text.out);
}

TEST(Program, ClusterJsonIsADescriptionAgain) {
  const TemporaryDirectory directory;
  const auto mine = (directory.path() / "mine.json").string();
  ASSERT_EQ(flexmoe("cluster show dgx_h100 --nodes 7 --json | tee " + mine).exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(read_all(mine))["nodes"]["default"], 7);
  const Result checked = flexmoe("cluster check " + mine + " " + cluster_file("cpu_host"));
  EXPECT_EQ(checked.exit_code, 0) << checked.err;
  EXPECT_EQ(checked.out, mine + ": ok, dgx_h100, 17 figures\n" + cluster_file("cpu_host") +
                             ": ok, cpu_host, 10 figures\n");
}

TEST(Program, ClusterCheckStopsAtTheFirstBadFile) {
  const TemporaryDirectory directory;
  const auto bad = (directory.path() / "bad.json").string();
  auto json = nlohmann::json::parse(read_all(cluster_file("dgx_h100")));
  json["inter_node"]["bandwidth_GBps"]["value"] = -50;
  std::ofstream(bad) << json;
  const Result result =
      flexmoe("cluster check " + cluster_file("cpu_host") + " " + bad + " " + cluster_file("one_h200"));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, cluster_file("cpu_host") + ": ok, cpu_host, 10 figures\n");
  EXPECT_EQ(result.err,
            "flexmoe: " + bad + ": inter_node.bandwidth_GBps.value: is -50; it must be above 0\n");
}

struct Mistake {
  const char* arguments;
  int exit_code;
  const char* words;
};

std::ostream& operator<<(std::ostream& out, const Mistake& mistake) { return out << mistake.arguments; }

class Mistakes : public ::testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, AreToldInOneLine) {
  const auto& [arguments, exit_code, words] = GetParam();
  const Result result = flexmoe(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << arguments;
  EXPECT_THAT(result.err, HasSubstr(words)) << arguments;
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  EXPECT_TRUE(result.out.empty()) << result.out;
}

INSTANTIATE_TEST_SUITE_P(
    Words, Mistakes,
    ::testing::Values(
        Mistake{"", 2, "subcommand"}, Mistake{"bensh", 2, "'bensh' is no subcommand (did you mean bench?)"},
        Mistake{"bench --ranks 0", 2, "--ranks"},
        Mistake{"bench --plan 'r1 d3 linear'", 2, "pipeline degree 3 is not 1, 2, 4 or 8"},
        Mistake{"bench --plan r5", 2, "r5 does not divide"},
        Mistake{"bench --plan fast", 2, "a plan looks like"},
        Mistake{"bench --experts 3 --ranks 2", 2, "3 experts do not spread over 2 ranks"},
        Mistake{"bench --experts 1 --top-k 2", 2, "top_k"},
        Mistake{"bench --experts 2 --ranks 8 --top-k 1 --hidden-dim 6", 2,
                "hidden_dim 6 is not divisible by the 4 ranks"},
        Mistake{"bench --ranks 4 --ranks-per-node 3", 2, "4 ranks do not fill nodes of 3"},
        Mistake{"bench --ranks 4 --experts 4 --tokens 4 --top-k 1 --model-dim 4 --hidden-dim 4 --plan r1 "
                "--capacity-factor 4611686018427387904",
                2, "is more than any memory holds"},
        Mistake{"bench --suite memory", 2, "use --device cuda:0"},
        Mistake{"bench --suite speed", 2, "--suite: speed not in {h200,memory,switching,profiling}"},
        Mistake{"bench --dtype int8", 2, "--dtype"},
        Mistake{"bench --capacity-factor nan", 2, "capacity_factor"},
        Mistake{"verify /nowhere.safetensors", 2, "/nowhere.safetensors"},
        Mistake{"verify " FLEX_SOURCE_DIR "/CMakeLists.txt", 2, "CMakeLists.txt"},
        Mistake{"verify --device gpu " FLEX_SOURCE_DIR "/tests/golden/moe_layer.safetensors", 2,
                "device 'gpu' is unknown; use cpu or cuda:N"},
        Mistake{"cluster", 2, "subcommand"},
        Mistake{"cluster lst", 2, "'lst' is no subcommand (did you mean list?); there are list, show, check"},
        Mistake{"cluster show", 2, "cluster is required"},
        Mistake{"cluster show dgx_h10", 2,
                "\"dgx_h10\" is neither a built-in cluster (did you mean dgx_h100?) nor a file"},
        Mistake{"cluster show " FLEX_SOURCE_DIR, 2, "is neither a built-in cluster nor a file"},
        Mistake{"cluster show dgx_h100 --nodes 0", 2,
                "dgx_h100: 0 nodes were asked for; it has at least 1 and at most 256"},
        Mistake{"cluster show one_h200 --nodes 2", 2,
                "2 nodes were asked for; it has at least 1 and at most 1"},
        Mistake{"cluster show dgx_h100 --nodes many", 2, "--nodes"},
        Mistake{"cluster check", 2, "files is required"},
        Mistake{"cluster check /nowhere.json", 2, "/nowhere.json"},
        Mistake{"cluster check " FLEX_SOURCE_DIR "/CMakeLists.txt", 2, "CMakeLists.txt:1:"},
        Mistake{"demo " FLEX_SOURCE_DIR "/tests/golden/moe_layer.safetensors", 2, "config"}));

}  // namespace
}  // namespace flex
