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

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result flexmoe(const std::string& arguments) {
  const TemporaryDirectory directory;
  const auto out = directory.path() / "out";
  const auto err = directory.path() / "err";
  const std::string command =
      std::string(FLEX_PROGRAM) + " " + arguments + " >" + out.string() + " 2>" + err.string();
  const int status = std::system(command.c_str());  // NOLINT(cert-env33-c): the program under test
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(err)};
}

std::string golden(const std::string& name) { return std::string(FLEX_SOURCE_DIR) + "/tests/golden/" + name; }

TEST(Program, SaysWhatItIs) {
  EXPECT_THAT(flexmoe("--version").out, HasSubstr("flexmoe 0."));
  const Result help = flexmoe("--help");
  EXPECT_EQ(help.exit_code, 0);
  for (const char* command : {"doctor", "bench", "verify", "demo"}) EXPECT_THAT(help.out, HasSubstr(command));
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
        Mistake{"bench --suite speed", 2, "suite 'speed' is unknown; there are h200 and memory"},
        Mistake{"bench --dtype int8", 2, "--dtype"},
        Mistake{"bench --capacity-factor nan", 2, "capacity_factor"},
        Mistake{"verify /nowhere.safetensors", 2, "/nowhere.safetensors"},
        Mistake{"verify " FLEX_SOURCE_DIR "/CMakeLists.txt", 2, "CMakeLists.txt"},
        Mistake{"verify --device gpu " FLEX_SOURCE_DIR "/tests/golden/moe_layer.safetensors", 2,
                "device 'gpu' is unknown; use cpu or cuda:N"},
        Mistake{"demo " FLEX_SOURCE_DIR "/tests/golden/moe_layer.safetensors", 2, "config"}));

}  // namespace
}  // namespace flex
