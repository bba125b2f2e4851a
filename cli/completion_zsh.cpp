#include <fmt/format.h>

#include <algorithm>

#include "cli/completion.h"

namespace flex::cli {
namespace {

// In single quotes of the shell, where `special` have a meaning for _arguments or _describe.
std::string quoted(const std::string& text, std::string_view special) {
  std::string result;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) result += '\\';
    result += c == '\'' ? "'\\''" : std::string(1, c);
  }
  return result;
}

std::string function_of(const std::string& path) {
  std::string name = "_" + path;
  std::ranges::replace(name, ' ', '_');
  return name;
}

/// `:name:_files`
std::string value_spec(const std::string& name, const CompletedOption& option) {
  const std::string words = fmt::format("{}", fmt::join(option.choices, " "));
  switch (option.kind) {
    case ValueKind::kNone:
      return {};
    case ValueKind::kChoice:
      return fmt::format(":{}:({})", name, words);
    case ValueKind::kCluster:
      return fmt::format(R"(:{0}:{{compadd {1}; _files}})", name, words);
    case ValueKind::kFile:
      return fmt::format(":{}:_files", name);
    case ValueKind::kDirectory:
      return fmt::format(":{}:_files -/", name);
    case ValueKind::kOther:
      break;
  }
  return fmt::format(":{}: ", name);
}

std::string argument_lines(const CompletedCommand& command) {
  std::string lines;
  for (const CompletedOption& option : command.options) {
    for (const std::string& name : option.names) {
      const std::string value_name = name.substr(name.find_first_not_of('-'));
      lines += fmt::format(" \\\n    '{}[{}]{}'", name, quoted(option.help, "[]:\\"),
                           value_spec(value_name, option));
    }
  }
  for (const CompletedOption& option : command.positionals) {
    lines +=
        fmt::format(" \\\n    '{}{}'", option.repeats ? "*" : "", value_spec(option.names.front(), option));
  }
  return lines;
}

std::string function_text(const CompletedCommand& command, const std::vector<CompletedCommand>& all) {
  const std::string name = function_of(command.path);
  if (command.subcommands.empty()) {
    return fmt::format("{}() {{\n  _arguments{}\n}}\n", name, argument_lines(command));
  }
  std::string descriptions, cases;
  for (const std::string& word : command.subcommands) {
    const std::string path = command.path + " " + word;
    const auto found = std::ranges::find(all, path, &CompletedCommand::path);
    descriptions += fmt::format("\n    '{}:{}'", word, quoted(found->help, ":\\"));
    cases += fmt::format("\n        {}) {} ;;", word, function_of(path));
  }
  return fmt::format(R"({0}() {{
  local curcontext=$curcontext state line
  typeset -A opt_args
  local -a commands=({1})
  _arguments -C{2} \
    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe -t commands '{3} command' commands ;;
    rest)
      case $words[1] in{4}
      esac ;;
  esac
}}
)",
                     name, descriptions, argument_lines(command), command.path, cases);
}

}  // namespace

std::string zsh_completion(const std::vector<CompletedCommand>& commands) {
  const std::string program = commands.front().path;
  std::string text =
      fmt::format("#compdef {0}\n# Completion of {0} for zsh, made by `{0} completion zsh`.\n", program);
  for (const CompletedCommand& command : commands) text += function_text(command, commands);
  // As a file of $fpath the first call runs all of this; sourced, it only registers.
  text += fmt::format("if [[ $funcstack[1] == _{0} ]]; then\n  _{0} \"$@\"\nelse\n  compdef _{0} {0}\nfi\n",
                      program);
  return text;
}

}  // namespace flex::cli
