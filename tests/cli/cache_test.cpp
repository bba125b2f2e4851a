#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"
#include "tests/tuner/cache_cases.h"

/// `flexmoe cache` as a user calls it.
namespace flex {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using testing::kCompleteSearch;
using testing::key_at;
using testing::trial_of;
using testing::two_trials;

class CacheProgram : public ::testing::Test {
 protected:
  CacheProgram() {
    TuningCache cache = TuningCache::open(path_);
    cache.record(key_at(3, 1), two_trials(), kCompleteSearch);
    TuningKey backward = key_at(4);
    backward.one.pass = Pass::kBackward;
    backward.one.given_degree = 2;
    cache.record(backward, two_trials());
  }

  [[nodiscard]] std::string file(const std::string& name) const {
    return (directory_.path() / name).string();
  }
  /// Runs `flexmoe cache ARGUMENTS --cache` on the test's cache.
  [[nodiscard]] Result cache(const std::string& arguments) const {
    return flexmoe("cache " + arguments + " --cache " + path_);
  }

  TemporaryDirectory directory_;
  std::string path_ = file("tuning.db");
};

TEST_F(CacheProgram, ListsCases) {
  const Result text = cache("list");
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out,
              ContainsRegex(case_name(key_at(3, 1)).substr(0, 8) +
                            "  Device 9 +16  E 4 k 2 M 512 H 2048 bf16 dropless  forward +384..511 +1  "
                            "r2 d4 2dh +0.200 us  \\+50.0% +2  measured  exhaustive\n"));
  EXPECT_THAT(text.out, ContainsRegex("backward, r2 given +512..639 +0  - +-  +- +2\n"));
  const auto rows = json::parse(cache("list --json").out);
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[0]["name"], case_name(key_at(3, 1)));
  EXPECT_EQ(rows[0]["layer"]["hidden_dim"], 2048);
  EXPECT_EQ(rows[0]["decision"]["plan"], "r2 d4 2dh");
  EXPECT_EQ(rows[1]["decision"], nullptr);
}

TEST_F(CacheProgram, ShowsACaseWithItsTrials) {
  const Result text = cache("show " + case_name(key_at(3, 1)).substr(0, 6));
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out,
              HasSubstr("16 ranks, 8 on a node, 1 on a device; device Device 9; links wire and longer wire; "
                        "driver 580.1, CUDA 13.0, NCCL 2.28, Flex 0.1.0"));
  EXPECT_THAT(
      text.out,
      HasSubstr("plan r2 d4 2dh: 0.200 us, +50.0% over r1 d1 linear; of 2 plans, measured, exhaustive"));
  EXPECT_THAT(text.out,
              ContainsRegex("r2 d4 2dh +0.200 us +0.00100 us +3  correct +4096 +2048 +3 +1 +1980  measured  "
                            "2023-11-14T22:13:20  a test\n"));
  const auto one = json::parse(cache("show " + case_name(key_at(3, 1)) + " --json").out);
  EXPECT_EQ(one["trials"].size(), 2);
  EXPECT_EQ(one["environment"]["world"], 16);
}

TEST_F(CacheProgram, ComparesTwoCaches) {
  const std::string other = file("other.db");
  std::filesystem::copy_file(path_, other);
  const Result same = flexmoe("cache diff " + path_ + " " + other);
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_EQ(same.out, "the same plans\n");
  {
    TuningCache cache = TuningCache::open(other);
    const std::vector<Trial> faster = {trial_of("r4", {100})};
    cache.record(key_at(3, 1), faster, kCompleteSearch);
    cache.record(key_at(9), two_trials(), kCompleteSearch);
  }
  const Result differs = flexmoe("cache diff " + path_ + " " + other);
  EXPECT_EQ(differs.exit_code, 1);
  EXPECT_THAT(differs.out, ContainsRegex("384..511 +1  r2 d4 2dh  0.200 us  r4 d1 linear  0.100 us\n"));
  EXPECT_THAT(differs.out, ContainsRegex("1152..1279 +0  - +-  r2 d4 2dh +0.200 us\n"));
  const auto rows = json::parse(flexmoe("cache diff --json " + path_ + " " + other).out);
  ASSERT_EQ(rows.size(), 2);
}

TEST_F(CacheProgram, ExportsAndImportsTheSameTrials) {
  const std::string results = file("results.json");
  const std::string other = file("other.db");
  EXPECT_EQ(cache("export " + results).out, results + ": 4 trial(s) of 2 case(s)\n");
  EXPECT_EQ(flexmoe("cache import " + results + " --cache " + other).out,
            other + ": 4 new trial(s), 1 new or changed decision(s)\n")
      << "r1 is no default of a pass with r2 given";
  EXPECT_EQ(cache("import " + results).out, path_ + ": 0 new trial(s), 0 new or changed decision(s)\n");
  const auto rows = json::parse(flexmoe("cache list --json --cache " + other).out);
  ASSERT_EQ(rows.size(), 2);
  EXPECT_EQ(rows[0]["decision"]["plan"], "r2 d4 2dh");
  EXPECT_EQ(rows[0]["decision"]["source"], "imported");
  EXPECT_EQ(rows[0]["decision"]["is_complete"], false);
}

TEST_F(CacheProgram, ExportsTheSpaceOfACase) {
  const std::string space = file("space.json");
  const Result result = cache("export --format t1 --case " + case_name(key_at(3, 1)) + " " + space);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto parameters = json::parse(read_all(space))["ConfigurationSpace"]["TuningParameters"];
  EXPECT_EQ(parameters[0]["Values"], "[0, 1, 2, 4]");
  EXPECT_EQ(parameters[3]["Values"], "['counted', 'padded']");
}

TEST_F(CacheProgram, MergesCaches) {
  const std::string other = file("other.db");
  EXPECT_EQ(flexmoe("cache merge " + path_ + " --cache " + other).out,
            other + ": 4 new trial(s), 1 new or changed decision(s), samples of 0 new part(s)\n");
  EXPECT_EQ(flexmoe("cache diff " + path_ + " " + other).out, "the same plans\n");
}

TEST_F(CacheProgram, PrunesWhatItIsTold) {
  EXPECT_EQ(cache("prune --older-than 1 --dry-run").out,
            path_ + ": 2 trial(s), decision(s) and sample(s) would be removed\n");
  EXPECT_EQ(cache("prune --older-than 1").out, path_ + ": 2 trial(s), decision(s) and sample(s) removed\n")
      << "a decision rests on the other two";
  EXPECT_EQ(cache("prune --bad-rows").out, path_ + ": 0 trial(s), decision(s) and sample(s) removed\n");
  EXPECT_EQ(json::parse(cache("list --json").out).size(), 1);
}

TEST_F(CacheProgram, VerifiesTheFile) {
  const Result good = cache("verify");
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(good.out, path_ + ": ok, 2 case(s), 4 trial(s), 1 decision(s)\n");
  EXPECT_EQ(json::parse(cache("verify --json").out)["trials"], 4);
  // A plan in a row, which stands there as text, becomes another.
  std::string content = read_all(path_);
  for (std::size_t at = content.find("r2 d4 2dh"); at != std::string::npos;
       at = content.find("r2 d4 2dh", at)) {
    content[at + 1] = '8';
  }
  std::ofstream(path_, std::ios::binary) << content;
  const Result bad = cache("verify");
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_THAT(bad.out, HasSubstr(path_ + ": 3 row(s) whose checksum is wrong; they are not used\n"));
  EXPECT_THAT(bad.out, HasSubstr("NOT ok"));
  EXPECT_THAT(cache("list").out, HasSubstr("row(s) with wrong checksums are not shown"));
}

TEST_F(CacheProgram, TheEnvironmentNamesTheFile) {
  ASSERT_EQ(::setenv("FLEX_CACHE", path_.c_str(), 1), 0);  // NOLINT(concurrency-mt-unsafe)
  const Result result = flexmoe("cache verify");
  ::unsetenv("FLEX_CACHE");  // NOLINT(concurrency-mt-unsafe)
  EXPECT_THAT(result.out, HasSubstr(path_ + ": ok"));
}

TEST_F(CacheProgram, MistakesAreToldInOneLine) {
  const std::string foreign = file("foreign.db");
  std::ofstream(foreign) << std::string(3000, 'x');
  const std::string no_results = file("no_results.json");
  std::ofstream(no_results) << R"({"results": [{"configuration": {"block_size_x": 32}}]})";
  const std::pair<std::string, std::string> mistakes[] = {
      {"list --cache " + file("none.db"), "there is no tuning cache " + file("none.db")},
      {"list --cache " + foreign, foreign + ": it is damaged (file is not a database)"},
      {"merge " + foreign + " --cache " + path_, foreign + ": it is damaged"},
      {"prune --bad-rows --cache " + foreign, foreign + ": it is damaged"},
      {"import " + no_results + " --cache " + path_,
       no_results + ": results[0].configuration.parallel_degree: is missing"},
      {"import " + file("none.json") + " --cache " + path_, "none.json"},
      {"show ffff --cache " + path_, "there is no case 'ffff'; `flexmoe cache list` names them"},
      {"show '' --cache " + path_, "2 cases begin with ''; give more digits"},
      {"prune --cache " + path_, "say what is to go: --older-than DAYS, --other-builds or --bad-rows"},
      {"export --format t1 x.json --cache " + path_, "name it with --case"},
      {"export --format t9 x.json --cache " + path_, "t9"},
      {"diff " + path_, "files"},
      {"lst", "'lst' is no subcommand (did you mean list?)"}};
  for (const auto& [arguments, words] : mistakes) {
    const Result result = flexmoe("cache " + arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_THAT(result.err, HasSubstr(words)) << arguments;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_TRUE(std::filesystem::exists(foreign)) << "a mistyped name sets no file aside";
}

}  // namespace
}  // namespace flex
