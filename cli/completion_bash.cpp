#include <fmt/format.h>

#include <algorithm>

#include "cli/completion.h"

namespace flex::cli {
namespace {

// Around the tables of words. A word after `=` belongs to the option before it: bash splits there.
constexpr const char* kBegin = R"(# Completion of {0} for bash, made by `{0} completion bash`.
_{0}_words() {{ mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }}
_{0}_files() {{
  compopt -o filenames 2>/dev/null
  mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen "$1" -- "$current")
}}
_{0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command={0} i
  COMPREPLY=()
  if [[ $current == = ]]; then
    current=
  elif [[ $before == = ]]; then
    before=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case "$command ${{COMP_WORDS[i]}}" in
      {1}) command+=" ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case "$command $before" in
)";
constexpr const char* kOptions = R"(  esac
  if [[ $current == -* ]]; then
    case $command in
)";
constexpr const char* kWords = R"(    esac
    return
  fi
  case $command in
)";
constexpr const char* kEnd = R"(  esac
}}
complete -F _{0} {0}
)";

std::string action(const std::string& program, const CompletedOption& option) {
  std::string words = fmt::format("_{}_words '{}'", program, fmt::join(option.choices, " "));
  switch (option.kind) {
    case ValueKind::kChoice:
      return words;
    case ValueKind::kCluster:
      return fmt::format("{}; _{}_files -f", words, program);
    case ValueKind::kFile:
      return fmt::format("_{}_files -f", program);
    case ValueKind::kDirectory:
      return fmt::format("_{}_files -d", program);
    case ValueKind::kNone:
    case ValueKind::kOther:
      break;
  }
  return ":";
}

std::string values_of(const std::string& program, const CompletedCommand& command) {
  std::string lines;
  for (const CompletedOption& option : command.options) {
    if (option.kind == ValueKind::kNone) continue;
    std::vector<std::string> patterns;
    for (const std::string& name : option.names) {
      patterns.push_back(fmt::format("'{} {}'", command.path, name));
    }
    lines += fmt::format("    {}) {}; return ;;\n", fmt::join(patterns, " | "), action(program, option));
  }
  return lines;
}

}  // namespace

std::string bash_completion(const std::vector<CompletedCommand>& commands) {
  const std::string program = commands.front().path;
  std::vector<std::string> paths;
  std::string values, options, words;
  for (const CompletedCommand& command : commands) {
    if (command.path != program) paths.push_back(fmt::format("'{}'", command.path));
    values += values_of(program, command);
    std::vector<std::string> names;
    for (const CompletedOption& option : command.options) {
      names.insert(names.end(), option.names.begin(), option.names.end());
    }
    options += fmt::format("      '{}') _{}_words '{}' ;;\n", command.path, program, fmt::join(names, " "));
    if (!command.subcommands.empty()) {
      words += fmt::format("    '{}') _{}_words '{}' ;;\n", command.path, program,
                           fmt::join(command.subcommands, " "));
    } else if (!command.positionals.empty()) {
      // All positionals of a command are of one kind.
      words += fmt::format("    '{}') {} ;;\n", command.path, action(program, command.positionals.front()));
    }
  }
  return fmt::format(kBegin, program, fmt::join(paths, " | ")) + values + kOptions + options + kWords +
         words + fmt::format(kEnd, program);
}

}  // namespace flex::cli
