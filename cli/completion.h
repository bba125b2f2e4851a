#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

/// Completion for shells, made of the program's own tree of subcommands.
namespace flex::cli {

/// What may stand in a place of the command line.
enum class ValueKind {
  kNone,       ///< a flag takes nothing
  kChoice,     ///< one of `choices`
  kCluster,    ///< one of `choices`, or a file
  kFile,       ///< a file or a folder
  kDirectory,  ///< a folder
  kOther       ///< a number, a plan, a name: nothing to offer
};

/// An option or a positional argument.
struct CompletedOption {
  std::vector<std::string> names;  ///< `-o`, `--output`; of a positional its name alone
  std::string help;
  ValueKind kind = ValueKind::kNone;
  std::vector<std::string> choices;
  bool repeats = false;  ///< takes any number of values
};

/// `flexmoe` or a subcommand of any depth.
struct CompletedCommand {
  std::string path;  ///< `flexmoe cache list`
  std::string help;
  std::vector<std::string> subcommands;  ///< their last words
  std::vector<CompletedOption> options;
  std::vector<CompletedOption> positionals;
};

/// `app` and everything below it, a command before its subcommands.
[[nodiscard]] std::vector<CompletedCommand> completed_commands(const CLI::App& app);

/// Scripts to be sourced: a completion function for the program's name and the call that registers it. They
/// hold all words and do not run the program.
[[nodiscard]] std::string bash_completion(const std::vector<CompletedCommand>& commands);
/// Also good as the file `_flexmoe` in a folder of $fpath.
[[nodiscard]] std::string zsh_completion(const std::vector<CompletedCommand>& commands);

}  // namespace flex::cli
