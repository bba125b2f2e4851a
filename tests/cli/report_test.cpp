#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// `flexmoe report` as a user calls it.
namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ReportProgram : public ::testing::Test {
 protected:
  ReportProgram() {
    for (const char* module : {"util",       "time",
                               "format",     "loader",
                               "dataflow",   "canvas",
                               "scale",      "scenegraph",
                               "statistics", "expression",
                               "selection",  "event-selector",
                               "transforms", "view-transforms",
                               "encode",     "functions",
                               "runtime",    "parser",
                               "view",       "interpreter"}) {
      std::ofstream(directory_ / (std::string("vega-") + module + ".min.js")) << "/* " << module << " */";
    }
  }
  [[nodiscard]] std::string file(const std::string& name) const { return (directory_ / name).string(); }
  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name) << text;
    return file(name);
  }
  /// With modules that stand for Vega's, so that the package need not be there.
  [[nodiscard]] Result report(const std::string& arguments) const {
    return flexmoe("report " + arguments + " --vega " + directory_.path().string());
  }

  TemporaryDirectory directory_;
};

TEST_F(ReportProgram, MakesAPageOfWhatOtherCommandsPrint) {
  const Result simulated = flexmoe("simulate --experts-per-rank 2 --scale 16..64 --json");
  ASSERT_EQ(simulated.exit_code, 0) << simulated.err;
  const Result tuned = flexmoe("tune --cluster azure_ndv4_a100 --nodes 1 --experts 8 --cache none --json");
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  const std::string page = file("report.html");
  const Result result =
      report(write("scale.json", simulated.out) + " " + write("tune.json", tuned.out) + " -o " + page);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, StartsWith(page + "\n  " + file("scale.json") + ": "));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 4);
  const std::string html = read_all(page);
  EXPECT_THAT(html, StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(html, HasSubstr("/* interpreter */"));
  EXPECT_THAT(html, HasSubstr("A layer on 16 to 64 ranks of azure_ndv4_a100, training pass, predicted."));
}

TEST_F(ReportProgram, DrawsTrainingRunsOverEachOther) {
  const std::string step = R"("epoch": 0, "updated": true, "loss": 2, "learning_rate": 0.1})";
  const std::string one = write("one.jsonl", R"({"kind": "step", "step": 1, )" + step + "\n");
  const std::string two = write("two.jsonl", R"({"kind": "step", "step": 2, )" + step + "\n");
  const Result result = report(one + " " + two + " -o " + file("report.html"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string html = read_all(file("report.html"));
  EXPECT_THAT(html, HasSubstr("2 runs of up to 2 steps, drawn over each other."));
  const Result bad = report(one + " " + write("bad.jsonl", "{\"kind\": 3}\n") + " -o " + file("other.html"));
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.err, HasSubstr("bad.jsonl:1: kind: is 3"));
  EXPECT_FALSE(std::filesystem::exists(file("other.html")));
}

TEST_F(ReportProgram, BadInputIsOneLineAndLeavesThePageAsItWas) {
  const std::string page = write("report.html", "older");
  const struct {
    std::string text;
    std::string message;
  } cases[] = {
      {"no json", "run.json:1:"},
      {"{\"a\": 1}", "run.json: an unknown document; a report is made of what `flexmoe replay -o`"},
      {"{\"flexmoe\": \"replay\", \"version\": 9}", "run.json: version: is 9; this program reads up to 1"}};
  for (const auto& one : cases) {
    const Result result = report(write("run.json", one.text) + " -o " + page);
    EXPECT_EQ(result.exit_code, 2) << one.text;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(one.message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(read_all(page), "older");
  }
}

TEST_F(ReportProgram, FilesThatAreNotThereAreNamed) {
  EXPECT_EQ(report(file("none.json") + " -o " + file("r.html")).exit_code, 1);
  const std::string run =
      write("run.json",
            "{\"flexmoe\": \"replay\", \"version\": 1, \"trace\": {}, \"scenarios\": "
            "[{\"name\": \"base\", \"policies\": [{\"policy\": \"online\", \"total_us\": 5}]}]}");
  const Result result = flexmoe("report " + run + " -o " + file("r.html") + " --vega " + file("nowhere"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("nowhere/vega-util.min.js"));
  EXPECT_FALSE(std::filesystem::exists(file("r.html")));
  EXPECT_EQ(report(run + " -o " + file("r.html")).exit_code, 0);
}

}  // namespace
}  // namespace flex
