#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"

/// What the program is to the shell around it: completion, colours, Ctrl-C.
namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

bool has(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null").c_str()) == 0;  // NOLINT(cert-env33-c)
}

/// What bash would offer for the last of `words`, sorted, each with a space after it.
std::string completed(const std::string& words) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "complete.sh")
      << "source <(" FLEX_PROGRAM
         " completion bash)\n"
         "COMP_WORDS=("
      << words
      << ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
         "_flexmoe\nprintf '%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' ' '\n";
  const std::string command = "cd " FLEX_SOURCE_DIR " && bash " + (directory / "complete.sh").string() +
                              " >" + (directory / "out").string();
  EXPECT_EQ(std::system(command.c_str()), 0) << words;  // NOLINT(cert-env33-c)
  return read_all(directory / "out");
}

TEST(BashCompletion, OffersSubcommandsOfTheirCommand) {
  EXPECT_EQ(completed("flexmoe be"), "bench ");
  EXPECT_EQ(completed("flexmoe cluster ''"), "check list show ");
  EXPECT_EQ(completed("flexmoe bench clus"), " ") << "nothing stands there";
}

TEST(BashCompletion, OffersOptionsOfTheirCommand) {
  EXPECT_EQ(completed("flexmoe bench --ranks"), "--ranks --ranks-per-node ");
  EXPECT_EQ(completed("flexmoe cache prune --"),
            "--bad-rows --cache --dry-run --help --help-all --older-than "
            "--other-builds ");
  EXPECT_EQ(completed("flexmoe verify --ranks"), " ");
}

TEST(BashCompletion, OffersWhatAnOptionTakes) {
  EXPECT_EQ(completed("flexmoe bench --dtype f"), "fp16 fp32 fp64 ");
  EXPECT_EQ(completed("flexmoe bench --dtype = b"), "bf16 ") << "bash makes --dtype=b three words";
  EXPECT_EQ(completed("flexmoe bench --dtype ="), "bf16 fp16 fp32 fp64 ");
  EXPECT_EQ(completed("flexmoe tune --strategy r"), "random ");
  EXPECT_EQ(completed("flexmoe replay x --cluster hgx"), "hgx_h200 ");
  EXPECT_EQ(completed("flexmoe bench --ranks ''"), " ");
}

TEST(BashCompletion, OffersFiles) {
  EXPECT_EQ(completed("flexmoe verify tests/golden/moe_l"), "tests/golden/moe_layer.safetensors ");
  EXPECT_EQ(completed("flexmoe bench --model models/configs/swinv2_tiny"),
            "models/configs/swinv2_tiny.json ");
  EXPECT_EQ(completed("flexmoe report --vega mod"), "models ") << "folders alone";
}

// The words of `commands`, a file of an interactive zsh, as zsh completes them.
TEST(ZshCompletion, CompletesInAnInteractiveShell) {
  if (!has("zsh")) GTEST_SKIP() << "no zsh here";
  const TemporaryDirectory directory;
  std::ofstream(directory / "drive.zsh") << R"(zmodload zsh/zpty
zpty shell zsh -f -i
send() { zpty -w shell "$1"; }
send 'PS1="> "; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -d )"
                                         << (directory / "dump").string() <<
      R"('
send 'source <()" FLEX_PROGRAM R"( completion zsh); flexmoe() { print -r -- "GOT $*" }'
send $'flexmoe ben\t --dty\t bf\t --suite sw\t'
send 'exit'
zpty -r shell output '*GOT *--suite switching*' && print done
)";
  const std::string command =
      "cd " + directory.path().string() + " && TERM=dumb timeout 20 zsh -f drive.zsh >out 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_all(directory / "out");  // NOLINT(cert-env33-c)
  EXPECT_THAT(read_all(directory / "out"), HasSubstr("done"));
}

// `script` gives its command a terminal.
TEST(Colours, AreOnlyOnATerminalThatWantsThem) {
  EXPECT_THAT(flexmoe("bensh").err, StartsWith("flexmoe: 'bensh'"));
  if (!has("script")) GTEST_SKIP() << "no script(1) here";
  const auto on_terminal = [](const std::string& environment) {
    const TemporaryDirectory directory;
    const std::string command = "env " + environment + " script -qec '" FLEX_PROGRAM " bensh' /dev/null >" +
                                (directory / "out").string() + " </dev/null";
    (void)std::system(command.c_str());  // NOLINT(cert-env33-c): its status is that of the program
    return read_all(directory / "out");
  };
  EXPECT_THAT(on_terminal("-u NO_COLOR TERM=xterm"), StartsWith("\033[31mflexmoe:\033[0m 'bensh'"));
  EXPECT_THAT(on_terminal("NO_COLOR= TERM=xterm"), StartsWith("\033[31m"))
      << "empty is as if it were not set";
  EXPECT_THAT(on_terminal("NO_COLOR=1 TERM=xterm"), StartsWith("flexmoe: 'bensh'"));
  EXPECT_THAT(on_terminal("-u NO_COLOR TERM=dumb"), StartsWith("flexmoe: 'bensh'"));
}

class CtrlC : public ::testing::TestWithParam<const char*> {};

// Work of many seconds, ended after one: one line, exit code 130, and nothing left of what was being written.
TEST_P(CtrlC, EndsInOneLine) {
  const TemporaryDirectory directory;
  const Result result =
      flexmoe(GetParam(), "cd " + directory.path().string() + " && timeout --preserve-status -s INT 1");
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_EQ(result.err, "flexmoe: interrupted\n");
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()))
      << *std::filesystem::directory_iterator(directory.path());
}

INSTANTIATE_TEST_SUITE_P(
    Commands, CtrlC,
    ::testing::Values("bench --ranks 2 --tokens 512 --repeats 100000",
                      "bench --ranks 2 --tokens 256 --experts 8 --policy model --steps 1000",
                      "simulate --validate --ranks 2 --budget 20",
                      "demo --steps 1000 --json " FLEX_SOURCE_DIR "/tests/golden/moe_train_top2.safetensors",
                      "trace generate --ranks 64 --experts 64 --steps 100000000 -o trace.jsonl.gz"));

}  // namespace
}  // namespace flex
