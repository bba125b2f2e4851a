#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// What users get wrong, with the words that tell them: what was wrong, where, and what would be right.
namespace flex {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A command line in a folder with the files of Folder, run with `environment`. $G, $M and $S are the folders
/// of reference results, model configurations and sample traces.
struct UserError {
  const char* arguments;
  const char* words;
  int exit_code = 2;
  const char* environment = "";
};

std::ostream& operator<<(std::ostream& out, const UserError& error) { return out << error.arguments; }

/// Files with something wrong, made from good ones.
class Folder {
 public:
  Folder() {
    const std::string model = read_all(source("models/configs/swinv2_moe_micro.json"));
    write("cut.json", "{\"name\": \"x\",\n \"block\"");
    write("key.json", replaced(model, "\"window_size\"", "\"windw_size\""));
    write("window.json", replaced(model, "\"window_size\": 4", "\"window_size\": 0"));
    write("experts.json", replaced(model, "\"num_experts\": 4", "\"num_experts\": 3"));
    write("other.json", "{\"a\": 1}");
    write("grid.json", "{\"tokens\": [], \"hidden_dim\": 8}");
    write("grid_key.json", "{\"tokens\": 8, \"hiden_dim\": 8}");
    write("text.db", "not a database, but text\n");
    write("cut.jsonl", read_all(source("traces/samples/w2_hot_rank.jsonl")).substr(0, 700));
    const std::string packed = read_all(source("traces/samples/drift.jsonl.gz"));
    write("cut.jsonl.gz", packed.substr(0, packed.size() / 2));
    std::string damaged = packed;
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 0x10);
    write("damaged.jsonl.gz", damaged);
    write("cut.safetensors", read_all(source("tests/golden/moe_layer.safetensors")).substr(0, 100));
  }
  [[nodiscard]] std::string path() const { return directory_.path().string(); }
  static std::string source(const std::string& name) { return std::string(FLEX_SOURCE_DIR) + "/" + name; }

 private:
  static std::string replaced(std::string text, const std::string& old, const std::string& by) {
    const std::size_t at = text.find(old);
    EXPECT_NE(at, std::string::npos) << old;
    return text.replace(at, old.size(), by);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }

  TemporaryDirectory directory_;
};

class UserErrors : public ::testing::TestWithParam<UserError> {};

TEST_P(UserErrors, AreToldInOneLineThatHelps) {
  const Folder folder;
  const UserError& error = GetParam();
  const std::string before = "cd " + folder.path() + " && G=" + Folder::source("tests/golden") +
                             " M=" + Folder::source("models/configs") +
                             " S=" + Folder::source("traces/samples") +
                             " && env -u FLEX_PLAN FLEX_CACHE=none.db " + error.environment;
  const Result result = flexmoe(error.arguments, before);
  EXPECT_EQ(result.exit_code, error.exit_code);
  EXPECT_THAT(result.err, AllOf(StartsWith("flexmoe: "), HasSubstr(error.words)));
  EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/out.jsonl")) << "no file is left of what went wrong";
}

constexpr int kFailed = 1;

INSTANTIATE_TEST_SUITE_P(
    CommandLine, UserErrors,
    ::testing::Values(
        UserError{"benhc", "'benhc' is no subcommand (did you mean bench?); there are doctor, bench"},
        UserError{"cache lst", "'lst' is no subcommand (did you mean list?); there are list, show"},
        UserError{
            "bench --rank 4",
            "flexmoe bench has no option --rank (did you mean --ranks?); flexmoe bench --help has them all"},
        UserError{"trace generate --outptu=x",
                  "trace generate has no option --outptu (did you mean --output?)"},
        UserError{"bench --ranks -1", "--ranks: Value -1 not in range 1 to 1024"},
        UserError{"bench --repeats 0", "--repeats: is '0'; it must be a number above 0"},
        UserError{"bench --warmup -2", "--warmup: is '-2'; it must be a number that is not below 0"},
        UserError{"bench --dtype float", "--dtype: float not in {fp32,fp64,fp16,bf16}"},
        UserError{"bench --memory-limit lots",
                  "--memory-limit: lots unit not recognized. Allowed values: {b,e,eb"},
        UserError{"tune --cluster dgx_h100 --ranks 2", "--ranks excludes --cluster"},
        UserError{"tune --nodes 3", "--nodes requires --cluster"},
        UserError{"completion fish", "shell: fish not in {bash,zsh}"},
        UserError{"train", "the model's file is missing: flexmoe train CONFIG.json"}));

INSTANTIATE_TEST_SUITE_P(
    Files, UserErrors,
    ::testing::Values(
        UserError{"train nothing.json", "config: File does not exist: nothing.json"},
        UserError{"model show $M", "config: File is actually a directory"},
        UserError{"model show cut.json", "cut.json:2:8: syntax error"},
        UserError{"model show key.json", "key.json: windw_size: unknown key; did you mean \"window_size\"?"},
        UserError{"model show window.json", "window.json: window_size: is 0; it must be at least 1"},
        UserError{"model show other.json", "other.json: block: is missing"},
        UserError{"verify cut.safetensors", "bytes follow it; the file is cut off"},
        UserError{"verify other.json", "other.json: header length is"},
        UserError{"replay nothing.jsonl --cluster dgx_h100", "cannot open nothing.jsonl: No such file",
                  kFailed},
        UserError{"replay $S --cluster dgx_h100", "Is a directory", kFailed},
        UserError{"trace check cut.jsonl", "cut.jsonl:4: the line is cut off"},
        UserError{"trace check cut.jsonl.gz", "the gzip data are cut off"},
        UserError{"trace check damaged.jsonl.gz", "damaged.jsonl.gz:"},
        UserError{"trace generate -o /nowhere/out.jsonl",
                  "cannot write /nowhere/out.jsonl: No such file or directory", kFailed},
        UserError{"profile --budget 60 --cache none.db -o /nowhere/x.json", "cannot write /nowhere/x.json",
                  kFailed},
        UserError{"simulate --plan best --timeline /nowhere/x.json", "cannot write /nowhere/x.json", kFailed},
        UserError{"cache list", "there is no tuning cache none.db; name another with --cache"},
        UserError{"cache list", "text.db: it is damaged (file is not a database)", 2, "FLEX_CACHE=text.db"},
        UserError{"cache import other.json", "other.json: results: is missing"},
        UserError{"cache diff a.db", "files: At least 2 required but received 1"},
        UserError{"report other.json -o x.html", "other.json: an unknown document; a report is made of"},
        UserError{"tune --grid grid.json", "grid.json: tokens: is an empty list; give at least one value"},
        UserError{"tune --grid grid_key.json",
                  "grid_key.json: hiden_dim: unknown key; did you mean \"hidden_dim\"?"},
        UserError{"simulate --calibration other.json", "other.json: cluster: is missing"},
        UserError{"cluster check cut.json", "cut.json:2:8: syntax error"}));

INSTANTIATE_TEST_SUITE_P(
    Meaning, UserErrors,
    ::testing::Values(
        UserError{"bench --dtype bf16", "--dtype bf16 is not computed on cpu; use fp32 or fp64"},
        UserError{"bench --plan 'r3 d1 linear'", "r3 does not divide the 1 rank(s) that share an expert"},
        UserError{"bench --plan 'r1 d2 2d'", "'2d' is unknown; a plan looks like 'r2 d4 2dh'"},
        UserError{"bench --policy modle", "\"modle\" is no policy; use static:PLAN", 2},
        UserError{"bench --experts 8 --policy online --steps 1", "FLEX_PLAN", 2, "FLEX_PLAN=fast"},
        UserError{"bench --experts 3 --ranks 2",
                  "3 experts do not spread over 2 ranks: one must divide the other"},
        UserError{"bench --experts 2 --top-k 3", "top_k is 3; with 2 experts it is from 1 to 2"},
        UserError{"train experts.json --ranks 2", "3 experts do not spread over 2 ranks"},
        UserError{"train $M/swinv2_moe_micro.json --ranks 3",
                  "training.batch_size: is 16; it must be a multiple of the 3 ranks"},
        UserError{"simulate --cluster dgx_h10",
                  "(did you mean dgx_h100?) nor a file; built in are azure_ndv4_a100"},
        UserError{"simulate --cluster dgx_h100 --nodes 9999", "9999 nodes were asked for; it has at least 1"},
        UserError{"simulate --scale 16", "--scale is '16'; it is two numbers of ranks, such as 16..2048"},
        UserError{"explain --needed-capacity 1 --capacity-factor 0", "--needed-capacity is 1; 2048 choices"},
        UserError{"tune --strategy modle", "\"modle\" is no search strategy; use exhaustive"},
        UserError{"tune --memory-limit 1KiB --cache none", "the default plan r1 d1 linear needs 18.4 MB"},
        UserError{"replay $S/drift.jsonl.gz --cluster dgx_h100 --set kk=2",
                  "\"kk\" cannot be changed; these can: k"},
        UserError{"trace reshard $S/drift.jsonl.gz --ranks 3 -o out.jsonl", "split cannot lay 8 ranks on 3"},
        UserError{"trace cut $S/drift.jsonl.gz --steps 9..3 -o out.jsonl", "the first is not above the last"},
        UserError{"trace generate --imbalance W99 -o out.jsonl", "there is no workload 'W99'"},
        UserError{"cache prune", "say what is to go: --older-than DAYS"}));

#ifndef FLEX_HAS_CUDA
INSTANTIATE_TEST_SUITE_P(WithoutCuda, UserErrors,
                         ::testing::Values(UserError{
                             "bench --device cuda:0",
                             "cuda:0: this build is CPU-only; reconfigure with -DFLEX_CUDA=ON", kFailed}));
#endif

}  // namespace
}  // namespace flex
