#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// flexmoe simulate as a user calls it.
namespace flex {
namespace {

using ::testing::HasSubstr;

const std::string kLayer = "simulate --cluster azure_ndv4_a100 --experts-per-rank 2 ";

TEST(SimulateCommand, PrintsAllPlansFastestFirst) {
  const Result text = flexmoe(kLayer + "--nodes 2 --baseline fairseq");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  for (const char* word :
       {"16 ranks on 2 node(s)", "32 experts", "r1 d1 linear", "r1 d8 2dh", "speedup", "±"})
    EXPECT_THAT(text.out, HasSubstr(word));
  const auto json = nlohmann::json::parse(flexmoe(kLayer + "--nodes 2 --baseline fairseq --json").out);
  const auto& size = json["sizes"][0];
  EXPECT_EQ(size["ranks"], 16);
  ASSERT_EQ(size["plans"].size(), 9U) << "r0, and four d with each algorithm";
  double before = 0;
  for (const auto& plan : size["plans"]) {
    const double total = plan["total_us"];
    EXPECT_GE(total, before);
    before = total;
    double parts = 0;
    for (const auto& part : plan["critical_path"]) parts += part.get<double>();
    EXPECT_NEAR(parts, total, 1e-6 * total) << "shares are of the critical path";
    EXPECT_NEAR(plan["speedup"].get<double>(), size["fairseq_us"].get<double>() / total, 1e-9);
  }
}

TEST(SimulateCommand, BestIsNeverSlowerThanAnyPlanInBothPasses) {
  for (const char* more : {"--nodes 2", "--nodes 32", "--nodes 256 --hidden-dim 8192"}) {
    const auto best = nlohmann::json::parse(flexmoe(kLayer + more + " --plan best --json").out);
    const auto all = nlohmann::json::parse(flexmoe(kLayer + more + " --plan all --json").out);
    EXPECT_LE(best["sizes"][0]["plans"][0]["total_us"].get<double>(),
              all["sizes"][0]["plans"][0]["total_us"].get<double>() * (1 + 1e-9))
        << more;
  }
}

TEST(SimulateCommand, ScaleHasARowForEachSize) {
  const auto json = nlohmann::json::parse(flexmoe(kLayer + "--scale 16..128 --json").out);
  ASSERT_EQ(json["sizes"].size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(json["sizes"][i]["ranks"], 16 << i);
    EXPECT_EQ(json["sizes"][i]["plans"].size(), 1U);
  }
}

TEST(SimulateCommand, WritesATimeline) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "trace.json";
  EXPECT_EQ(flexmoe(kLayer + "--nodes 2 --plan 'r1 d2 2dh' --trace " + path.string()).exit_code, 0);
  std::ifstream file(path);
  const auto trace = nlohmann::json::parse(file);
  EXPECT_FALSE(trace["traceEvents"].empty());
}

struct BadCase {
  const char* arguments;
  const char* words;
};

TEST(SimulateCommand, BadInputIsOneLineAndExit2) {
  const TemporaryDirectory directory;
  const auto negative = directory.path() / "negative.json";
  auto cluster = nlohmann::json::parse(flexmoe("cluster show azure_ndv4_a100 --json").out);
  cluster["inter_node"]["bandwidth_GBps"]["value"] = -25;
  std::ofstream(negative) << cluster;
  const std::string negative_arguments = "simulate --cluster " + negative.string();
  for (const BadCase& bad : std::initializer_list<BadCase>{
           {"simulate --cluster nope", "built in are azure_ndv4_a100"},
           {negative_arguments.c_str(), "inter_node.bandwidth_GBps"},
           {"simulate --nodes 3 --experts 32", "32 experts do not spread over 24 ranks"},
           {"simulate --nodes 1000", "256"},
           {"simulate --nodes 2 --experts 16 --plan 'r3 d1 linear'", "r3"},
           {"simulate --nodes 2 --experts 16 --plan 'q1'", "plan"},
           {"simulate --scale 12..16", "do not fill nodes of 8"},
           {"simulate --scale 16", "16..2048"},
           {"simulate --scale 32..16", "the smaller one"},
           {"simulate --nodes 2 --experts-per-rank 0.3", "--experts-per-rank 0.3"},
           {"simulate --nodes 2 --experts 16 --top-k 17", "--top-k"},
           {"simulate --calibration nope.json", "nope.json"},
           {"simulate --nodes 2 --experts 16 --plan 'r1 d1' --backward-plan 'r0'", "the forward plan's r1"},
           {"simulate --nodes 2 --experts 16 --capacity-factor 0 --plan 'r1 counted'", "token counts"},
           {"simulate --nodes 2 --experts 16 --pass forward --plan r1 --backward-plan r1", "--pass training"},
           {"simulate --nodes 2 --experts 16 --capacity-factor 0 --needed-capacity 1", "at least"},
           {"simulate --experts 4 --experts-per-rank 2", "--experts-per-rank"},
           {"simulate --experts-per-rank 1e300", "--experts-per-rank"},
           {"simulate --scale 16..100", "end with a multiple of 8"},
           {"simulate --scale 16..64 --nodes 2", "--nodes"},
           {"simulate --scale 16..64 --plan all", "--plan best"},
           {"simulate --scale 16..64 --experts 16 --plan 'r3'", "at 16 ranks: "},
           {"simulate --validate --cluster one_h200", "--cluster"},
           {"simulate --cluster cpu_host --experts 2 --tf32", "--tf32"}}) {
    const Result result = flexmoe(bad.arguments);
    EXPECT_EQ(result.exit_code, 2) << bad.arguments << ": " << result.err;
    EXPECT_THAT(result.err, HasSubstr(bad.words)) << bad.arguments;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

}  // namespace
}  // namespace flex
