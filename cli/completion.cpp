#include "cli/completion.h"

#include <fmt/format.h>

#include <memory>
#include <string_view>

#include "cli/commands.h"
#include "costmodel/cluster_description.h"

// flexmoe completion bash|zsh
// Prints the script that lets a shell complete the command line.
namespace flex::cli {
namespace {

// `TEXT:{fp32,fp64}`: what CLI::IsMember adds to the name of a type, and what options that check their
// choices themselves have for one.
std::vector<std::string> choices_of(std::string_view type) {
  const std::size_t open = type.find('{');
  const std::size_t close = type.find('}');
  std::vector<std::string> choices;
  if (open == std::string_view::npos || close == std::string_view::npos) return choices;
  std::string_view rest = type.substr(open + 1, close - open - 1);
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    choices.emplace_back(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return choices;
}

ValueKind kind_of(const CLI::Option& option, const std::string& type) {
  const auto is = [&](std::string_view word) { return type == word || type == fmt::format("TEXT:{}", word); };
  if (option.get_items_expected_max() == 0) return ValueKind::kNone;
  if (!choices_of(type).empty()) return ValueKind::kChoice;
  if (type == "CLUSTER") return ValueKind::kCluster;
  if (is("DIR")) return ValueKind::kDirectory;
  return is("FILE") || is("PATH") ? ValueKind::kFile : ValueKind::kOther;
}

CompletedOption completed(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  CompletedOption result{.help = option.get_description(),
                         .kind = kind_of(option, type),
                         .choices = choices_of(type),
                         .repeats = option.get_items_expected_max() > 1};
  if (result.kind == ValueKind::kCluster) result.choices = builtin_clusters();
  if (option.get_positional()) {
    result.names = {option.get_name(true)};
    return result;
  }
  for (const std::string& name : option.get_snames()) result.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) result.names.push_back("--" + name);
  return result;
}

void collect(const CLI::App& app, const std::string& path, std::vector<CompletedCommand>& commands) {
  CompletedCommand command{.path = path, .help = app.get_description()};
  const std::vector<const CLI::App*> subcommands = app.get_subcommands({});
  for (const CLI::App* subcommand : subcommands) command.subcommands.push_back(subcommand->get_name());
  for (const CLI::Option* option : app.get_options()) {
    (option->get_positional() ? command.positionals : command.options).push_back(completed(*option));
  }
  commands.push_back(std::move(command));
  for (const CLI::App* subcommand : subcommands) {
    collect(*subcommand, path + " " + subcommand->get_name(), commands);
  }
}

}  // namespace

std::vector<CompletedCommand> completed_commands(const CLI::App& app) {
  std::vector<CompletedCommand> commands;
  collect(app, app.get_name(), commands);
  return commands;
}

void add_completion(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("completion", "Print a script that completes flexmoe's command line");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  command->footer(
      "Examples:\n"
      "  flexmoe completion bash > ~/.local/share/bash-completion/completions/flexmoe\n"
      "  flexmoe completion zsh > ~/.zfunc/_flexmoe\n"
      "For this shell alone: source <(flexmoe completion bash)");
  command->callback([&app, shell] {
    const std::vector<CompletedCommand> commands = completed_commands(app);
    fmt::print("{}", *shell == "bash" ? bash_completion(commands) : zsh_completion(commands));
  });
}

}  // namespace flex::cli
