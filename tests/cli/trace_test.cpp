#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"
#include "traces/trace_reader.h"

/// `flexmoe trace` as a user calls it.
namespace flex {
namespace {

using nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

const std::filesystem::path kSamples = std::filesystem::path(FLEX_SOURCE_DIR) / "traces/samples";
const std::string kDrift = (kSamples / "drift.jsonl.gz").string();

/// All bytes of a source.
std::string text_of(ByteSource& source) {
  std::string text;
  std::string block(1 << 16, '\0');
  while (const std::size_t count = source.read(block)) text.append(block, 0, count);
  return text;
}

class TraceProgram : public ::testing::Test {
 protected:
  [[nodiscard]] std::string file(const std::string& name) const { return (directory_ / name).string(); }
  /// Runs `flexmoe trace ARGUMENTS`, which must succeed; its standard output.
  static std::string trace(const std::string& arguments) {
    const Result result = flexmoe("trace " + arguments);
    EXPECT_EQ(result.exit_code, 0) << arguments << "\n" << result.err;
    EXPECT_EQ(result.err, "") << arguments;
    return result.out;
  }
  /// A small trace of 4 ranks and 4 steps.
  [[nodiscard]] std::string small() const {
    const std::string path = file("small.jsonl");
    trace("generate --ranks 4 --experts 8 --tokens 64 --steps 4 --layers 2 --workload w2 --seed 3 -o " +
          path);
    return path;
  }

  TemporaryDirectory directory_;
};

// The commands in the README of the samples make the samples: plain ones to the byte, packed ones but for how
// zlib packs.
TEST_F(TraceProgram, MakesTheSamples) {
  std::istringstream readme(read_all(kSamples / "README.md"));
  int num_samples = 0;
  for (std::string line; std::getline(readme, line);) {
    if (!line.starts_with("flexmoe trace generate")) continue;
    const std::string name = line.substr(line.rfind(' ') + 1);
    line.erase(line.rfind(' ') + 1);
    trace(line.substr(std::string("flexmoe trace ").size()) + file(name));
    EXPECT_EQ(text_of(*open_text_source(file(name))), text_of(*open_text_source(kSamples / name))) << name;
    ++num_samples;
  }
  EXPECT_EQ(num_samples, 3);
}

TEST_F(TraceProgram, GeneratesAndSaysSo) {
  const std::string path = file("w4.jsonl.gz");
  EXPECT_EQ(trace("generate --workload W4 --ranks 8 --experts 16 --steps 3 --forward-only --model m "
                  "--hardware h -o " +
                  path),
            path + ": 3 record(s) of 1 layer(s) and 8 rank(s)\n");
  const auto summary = json::parse(trace("inspect --json " + path));
  EXPECT_EQ(summary["source"], "generated");
  EXPECT_EQ(summary["model"], "m");
  EXPECT_EQ(summary["hardware"], "h");
  EXPECT_EQ(summary["ranks_per_node"], 8);
  EXPECT_EQ(summary["layers"][0]["backward"]["records"], 0);
}

TEST_F(TraceProgram, InspectsWhatATraceHolds) {
  const std::string text = trace("inspect " + kDrift);
  EXPECT_THAT(text, HasSubstr("drift.jsonl.gz: version 1, generated (drift, seed 7)\n"));
  EXPECT_THAT(text, HasSubstr("96 record(s), steps 0 to 23, 0 dropped while recording\n"));
  EXPECT_THAT(text,
              ContainsRegex(" 0 +16 +2 +0 +512 +2048 +bf16 +98304 +64 [0-9]+ 281 +1.00 [0-9.]+ 4.38\n"));
  EXPECT_THAT(text, ContainsRegex(" 1 +backward +24 +0 +- +- +- +-\n"));
  const auto summary = json::parse(trace("inspect --json " + kDrift));
  EXPECT_EQ(summary["records"], 96);
  EXPECT_EQ(summary["dropped"], 0);
  EXPECT_EQ(summary["last_step"], 23);
  EXPECT_EQ(summary["damage"], nullptr);
  EXPECT_EQ(summary["layers"][0]["needed_capacity"]["min"], 64);
  EXPECT_EQ(summary["layers"][0]["needed_capacity"]["max"], 281);
  EXPECT_EQ(summary["layers"][0]["tokens"], 98304) << "24 steps of 8 ranks with 512";
  EXPECT_EQ(summary["layers"][1]["forward"]["records"], 24);
  EXPECT_EQ(summary["layers"][1]["forward"]["duration_us"], nullptr);
}

TEST_F(TraceProgram, InspectsPlansAndTimes) {
  const std::string path = file("timed.jsonl");
  std::ofstream(path)
      << R"({"format":"flexmoe routing trace","version":1,"origins":[{"source":"recorded"}],"model":"","world":1,)"
      << R"("ranks_per_node":1,"layers":[{"num_experts":2,"num_tokens":4,"capacity_factor":1,"top_k":1,)"
      << R"("model_dim":8,"hidden_dim":8,"dtype":"fp32"}]})"
      << "\n";
  std::ofstream(path, std::ios::app)
      << R"({"step":0,"layer":0,"pass":"forward","plan":"r1 d2","duration_ns":5000,"needed_capacity":1,"counts":[[0,1]]})"
      << "\n"
      << R"({"step":1,"layer":0,"pass":"forward","plan":"r1","duration_ns":7000,"needed_capacity":1,"counts":[[0,1]]})"
      << "\n"
      << R"({"step":2,"layer":0,"pass":"forward","plan":"r1 d2","needed_capacity":1,"counts":[[0,1]]})"
      << "\n"
      << R"({"records":3,"dropped":2})"
      << "\n";
  const std::string text = trace("inspect " + path);
  EXPECT_THAT(text, HasSubstr("2 dropped while recording"));
  EXPECT_THAT(text,
              ContainsRegex("forward +3 +2 +5.00 us +5.00 us +7.00 us +r1 d2 linear x2, r1 d1 linear x1\n"));
  const auto layer = json::parse(trace("inspect --json " + path))["layers"][0];
  EXPECT_EQ(layer["forward"]["plans"]["r1 d2 linear"], 2);
  EXPECT_EQ(layer["forward"]["duration_us"]["max"], 7);
}

TEST_F(TraceProgram, ChecksFiles) {
  EXPECT_EQ(trace("check " + kDrift), kDrift + ": ok, 96 record(s), 0 dropped while recording\n");
  const std::string text = read_all(small());
  const std::string cut = file("cut.jsonl");
  std::ofstream(cut) << text.substr(0, text.size() - 60);
  const std::string wrong = file("wrong.jsonl");
  std::ofstream(wrong) << text.substr(0, text.find('\n') + 1) << R"({"step":0,"layer":-1})"
                       << "\n";
  const Result result = flexmoe("trace check " + cut + " " + kDrift + " " + wrong);
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, kDrift + ": ok, 96 record(s), 0 dropped while recording\n");
  EXPECT_EQ(result.err, "flexmoe: " + cut + ":17: the line is cut off\nflexmoe: " + wrong +
                            ":2: layer: is -1; it must be an integer from 0 to 4095\n");
}

TEST_F(TraceProgram, ReadsWhatIsLeftOfACutFile) {
  const std::string text = read_all(small());
  const std::string cut = file("cut.jsonl");
  std::ofstream(cut) << text.substr(0, text.size() - 60);
  const Result result = flexmoe("trace inspect --json " + cut);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "flexmoe warning: " + cut +
                            ":17: the line is cut off; only the 15 record(s) before it are used\n");
  const auto summary = json::parse(result.out);
  EXPECT_EQ(summary["records"], 15);
  EXPECT_EQ(summary["dropped"], nullptr);
  EXPECT_EQ(summary["damage"], cut + ":17: the line is cut off");
}

TEST_F(TraceProgram, CutsStepsAndLayers) {
  const std::string part = file("part.jsonl.gz");
  EXPECT_EQ(trace("cut " + small() + " --steps 1..2 --layers 1 -o " + part),
            part + ": 4 record(s) of 2 layer(s) and 4 rank(s)\n");
  const auto summary = json::parse(trace("inspect --json " + part));
  EXPECT_EQ(summary["first_step"], 1);
  EXPECT_EQ(summary["last_step"], 2);
  EXPECT_EQ(summary["layers"][0]["forward"]["records"], 0);
  EXPECT_EQ(summary["layers"][1]["forward"]["records"], 2);
  trace("cut " + small() + " --steps ..1 -o " + part);
  EXPECT_EQ(json::parse(trace("inspect --json " + part))["records"], 8);
  trace("cut " + small() + " --steps 3.. -o " + part);
  EXPECT_EQ(json::parse(trace("inspect --json " + part))["records"], 4);
}

TEST_F(TraceProgram, ReshardsTraces) {
  const std::string from = small();
  const std::string to = file("to.jsonl");
  for (const char* policy : {"split", "tile", "resample"}) {
    EXPECT_EQ(trace(fmt::format("reshard {} --ranks 8 --policy {} -o {}", from, policy, to)),
              to + ": 16 record(s) of 2 layer(s) and 8 rank(s)\n");
    trace("check " + to);
    const auto summary = json::parse(trace("inspect --json " + to));
    EXPECT_EQ(summary["source"], "resharded");
    EXPECT_THAT(summary["origins"][0].get<std::string>(), HasSubstr(fmt::format("resharded ({}, ", policy)));
    EXPECT_THAT(summary["origins"][0].get<std::string>(), HasSubstr("from 4 ranks, " + from + ")"));
    EXPECT_EQ(summary["origins"][1], "generated (W2, seed 3)");
    EXPECT_EQ(summary["layers"][0]["tokens"], (std::string(policy) == "split" ? 1 : 2) * 4 * 4 * 64);
  }
}

TEST_F(TraceProgram, ImportsRouterTraces) {
  std::filesystem::create_directory(directory_ / "router");
  for (const int rank : {0, 1}) {
    std::ofstream(directory_ / fmt::format("router/rank{}.jsonl", rank))
        << fmt::format(
               R"({{"step":1,"block":"decoder","layer":3,"rank":{},"num_tokens":2,"topk":1,"top_indices":[[0],[{}]]}})",
               rank, rank)
        << "\n";
  }
  const std::string to = file("imported.jsonl.gz");
  const std::string command = "import " + file("router") +
                              " --model-dim 8 --hidden-dim 16 --capacity-factor 0 -o " + to + " --experts ";
  EXPECT_EQ(trace(command + "2"), to + ": 1 record(s) of 1 layer(s) and 2 rank(s)\n");
  const auto summary = json::parse(trace("inspect --json " + to));
  EXPECT_EQ(summary["source"], "imported");
  EXPECT_EQ(summary["layers"][0]["needed_capacity"]["max"], 2);
  EXPECT_EQ(summary["layers"][0]["top_k"], 1);
  const Result few = flexmoe("trace " + command + "1");
  EXPECT_EQ(few.exit_code, 2);
  EXPECT_THAT(few.err, HasSubstr("rank1.jsonl:1: top_indices[1][0]: is 1; the experts are 0 to 0\n"));
}

TEST_F(TraceProgram, MistakesAreToldInOneLine) {
  const std::string out = " -o " + file("out.jsonl");
  const std::pair<std::string, std::string> mistakes[] = {
      {"inspect " + file("none"), "none: No such file or directory"},
      {"inspect " + (kSamples / "README.md").string(), "README.md:1:"},
      {"generate --workload W9" + out, "there is no workload 'W9'"},
      {"generate --experts 6 --ranks 4" + out, "layers[0]: 6 experts do not spread over 4 ranks"},
      {"generate --tokens 99999999999" + out, "layers[0]: num_tokens is 99999999999"},
      {"generate", "--output is required"},
      {"reshard " + kDrift + " --ranks 12" + out, "split cannot lay 8 ranks on 12"},
      {"reshard " + kDrift + " --ranks 16 --policy halve" + out, "halve"},
      {"reshard " + kDrift + out, "--ranks is required"},
      {"cut " + kDrift + " --steps 9..3" + out, "--steps is '9..3'; the first is not above the last"},
      {"cut " + kDrift + " --layers x" + out, "--layers is 'x'; it looks like 3..9, 3.., ..9 or 3"},
      {"cut " + kDrift + " --steps .." + out, "--steps is '..'; it looks like 3..9, 3.., ..9 or 3"},
      {"import " + kDrift + out, "is required"},
      {"inspct x", "'inspct' is no subcommand (did you mean inspect?)"}};
  for (const auto& [arguments, words] : mistakes) {
    const Result result = flexmoe("trace " + arguments);
    EXPECT_NE(result.exit_code, 0) << arguments;
    EXPECT_THAT(result.err, HasSubstr(words)) << arguments;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_FALSE(std::filesystem::exists(file("out.jsonl"))) << "nothing half made: " << arguments;
  }
}

TEST_F(TraceProgram, HelpHasExamples) {
  for (const char* command : {"generate", "inspect", "check", "import", "reshard", "cut"}) {
    EXPECT_THAT(flexmoe(std::string("trace ") + command + " --help").out,
                HasSubstr(std::string("flexmoe trace ") + command));
  }
  EXPECT_THAT(flexmoe("trace generate --help").out, HasSubstr("W7     burst: "));
}

}  // namespace
}  // namespace flex
