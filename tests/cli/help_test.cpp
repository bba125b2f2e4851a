#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/cli/program.h"

/// What all subcommands have in common: examples, and options of one name with one meaning.
namespace flex {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The help of a subcommand that has none below it, by its words after the program's name.
void collect(const std::string& path, std::map<std::string, std::string>& helps) {
  const Result result = flexmoe(path + " --help");
  ASSERT_EQ(result.exit_code, 0) << path << result.err;
  const std::vector<std::string> lines = lines_of(result.out);
  const auto begin = std::ranges::find(lines, "Subcommands:");
  if (begin == lines.end()) {
    helps[path] = result.out;
    return;
  }
  for (auto line = begin + 1; line != lines.end() && line->starts_with("  "); ++line) {
    if ((*line)[2] == ' ') continue;  // a description goes on
    const std::string name = line->substr(2, line->find(' ', 2) - 2);
    collect(path.empty() ? name : std::string(path).append(" ").append(name), helps);
  }
}

const std::map<std::string, std::string>& all_helps() {
  static const auto* const helps = [] {
    auto* made = new std::map<std::string, std::string>();
    collect("", *made);
    return made;
  }();
  return *helps;
}

/// `--name` and `-n` of the lines of options, with the word after them: `INT:POSITIVE=3`, or nothing.
std::map<std::string, std::string> options_of(const std::string& help) {
  static const std::regex line_of_option(R"(^  (-[^ ]+)(?: +(.*))?$)");
  std::map<std::string, std::string> options;
  for (const std::string& line : lines_of(help)) {
    std::smatch match;
    if (!std::regex_match(line, match, line_of_option)) continue;
    std::istringstream names(match[1].str());
    // A flag's description stands where another option has its type, after more space.
    const std::string type = line.substr(static_cast<std::size_t>(match.length(1)) + 2).starts_with("  ")
                                 ? ""
                                 : match[2].str().substr(0, match[2].str().find_first_of(" :=[<"));
    const bool is_flag = type.empty() || type == "Excludes" || type == "Needs";
    for (std::string name; std::getline(names, name, ',');) options[name] = is_flag ? "" : type;
  }
  return options;
}

TEST(Help, EverySubcommandHasAnExampleOfItself) {
  ASSERT_GE(all_helps().size(), 26U);
  for (const auto& [path, help] : all_helps()) {
    EXPECT_THAT(help, HasSubstr("\n  flexmoe " + path)) << path;
  }
}

// An example that names an option which is gone is worse than none.
TEST(Help, ExamplesUseOptionsThatAreThere) {
  static const std::regex option(" (--?[a-z][a-z0-9-]*)");
  int num_seen = 0;
  for (const auto& [path, help] : all_helps()) {
    const std::map<std::string, std::string> options = options_of(help);
    for (const std::string& line : lines_of(help)) {
      if (!line.starts_with("  flexmoe " + path + " ")) continue;
      for (auto it = std::sregex_iterator(line.begin(), line.end(), option); it != std::sregex_iterator();
           ++it) {
        EXPECT_TRUE(options.contains((*it)[1].str())) << line << ": " << (*it)[1].str();
        ++num_seen;
      }
    }
  }
  EXPECT_GE(num_seen, 50);
}

// The same name takes the same kind of value everywhere, or none. Those that differ, and why:
TEST(Help, OneOptionNameMeansOneThing) {
  const std::map<std::string, std::set<std::string>> exceptions = {
      {"--layers", {"INT", "RANGE"}},  // of `trace cut`, which takes some out
      {"--steps", {"INT", "RANGE"}},
      {"--model", {"FILE", "NAME"}},     // a name for people in a trace that is made
      {"--policy", {"FILE", "POLICY"}},  // of `trace reshard`: how tokens are laid
      {"--record", {"FILE", "DIR"}}};    // of `simulate --validate`: the older name of --write-recordings
  std::map<std::string, std::map<std::string, std::string>> commands_by_type_by_name;
  for (const auto& [path, help] : all_helps()) {
    for (const auto& [name, type] : options_of(help)) {
      std::string& commands = commands_by_type_by_name[name][type == "TEXT" ? "FILE" : type];
      commands += (commands.empty() ? "" : ", ") + path;
    }
  }
  EXPECT_GE(commands_by_type_by_name.size(), 80U);
  for (const auto& [name, commands_by_type] : commands_by_type_by_name) {
    if (exceptions.contains(name)) continue;
    EXPECT_EQ(commands_by_type.size(), 1U) << name << " " << ::testing::PrintToString(commands_by_type);
  }
}

// Whatever has a table has it as JSON too.
TEST(Help, WhatPrintsATablePrintsJson) {
  const std::set<std::string> print_a_line_or_a_script = {
      "cache export", "cache import",  "cache merge", "cache prune", "trace generate",    "trace import",
      "trace cut",    "trace reshard", "report",      "completion",  "checkpoint convert"};
  for (const auto& [path, help] : all_helps()) {
    EXPECT_EQ(options_of(help).contains("--json"), !print_a_line_or_a_script.contains(path)) << path;
  }
}

}  // namespace
}  // namespace flex
