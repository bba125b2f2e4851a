#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/nearest_name.h"
#include "base/require.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/version.h"

namespace {

std::string did_you_mean(const std::string& word, const std::vector<std::string>& names) {
  const std::optional<std::string> nearest = flex::nearest_name(word, names);
  return nearest ? fmt::format(" (did you mean {}?)", *nearest) : std::string();
}

// CLI11 would name an option that is not there among what "was not expected", with its value. Values may
// begin with one dash.
void require_known_options(const CLI::App& command, const std::string& path,
                           std::span<const char* const> arguments) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const std::string_view argument : arguments) {
    if (argument == "--") return;
    if (!argument.starts_with("--")) continue;
    const std::string name(argument.substr(0, argument.find('=')));
    if (std::ranges::find(names, name) != names.end()) continue;
    flex::fail("{} has no option {}{}; {} --help has them all", path, name, did_you_mean(name, names), path);
  }
}

// CLI11 would only say that a subcommand is required. `app` is the last word of `path`; `arguments` follow
// it.
void require_known_words(const CLI::App& app, const std::string& path,
                         std::span<const char* const> arguments) {
  const std::vector<const CLI::App*> commands = app.get_subcommands({});
  if (commands.empty() || arguments.empty() || arguments[0][0] == '-') {
    return require_known_options(app, path, arguments);
  }
  const std::string word = arguments[0];
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    if (command->get_name() == word) {
      return require_known_words(*command, fmt::format("{} {}", path, word), arguments.subspan(1));
    }
    names.push_back(command->get_name());
  }
  flex::fail("'{}' is no subcommand{}; there are {}", word, did_you_mean(word, names),
             fmt::join(names, ", "));
}

void say_wrong(std::string_view what) {
  fmt::print(stderr, "{} {}\n", flex::cli::red("flexmoe:", stderr), what);
}

}  // namespace

// flexmoe SUBCOMMAND ...
// Exit 0: done; 1: failed while running, or a check did not pass; 2: wrong usage or bad input; 130: Ctrl-C.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): only if stderr cannot be written
  constexpr int kFailed = 1;
  constexpr int kBadInput = 2;
  CLI::App app("Mixture-of-Experts layers under every parallelism and pipelining plan: run, measure, verify.",
               "flexmoe");
  app.set_version_flag("--version", flex::cli::version_text());
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of all subcommands");
  flex::cli::Outcome outcome;
  flex::cli::add_doctor(app, outcome);
  flex::cli::add_bench(app, outcome);
  flex::cli::add_simulate(app, outcome);
  flex::cli::add_tune(app, outcome);
  flex::cli::add_explain(app, outcome);
  flex::cli::add_verify(app, outcome);
  flex::cli::add_cluster(app, outcome);
  flex::cli::add_cache(app, outcome);
  flex::cli::add_trace(app, outcome);
  flex::cli::add_profile(app, outcome);
  flex::cli::add_model(app);
  flex::cli::add_checkpoint(app, outcome);
  flex::cli::add_replay(app, outcome);
  flex::cli::add_report(app);
  flex::cli::add_train(app, outcome);
  flex::cli::add_eval(app, outcome);
  flex::cli::add_infer(app, outcome);
  flex::cli::add_demo(app, outcome);
  flex::cli::add_completion(app);
  try {
    flex::cli::end_at_once_when_interrupted();
    require_known_words(app, app.get_name(), std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
    app.parse(argc, argv);
    return outcome.exit_code;
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::Error& error) {
    say_wrong(fmt::format("{}. Run with --help for more information.", error.what()));
    return kBadInput;
  } catch (const flex::InputError& error) {
    say_wrong(error.what());
    return kBadInput;
  } catch (const flex::cli::Interrupted& interrupted) {
    say_wrong(interrupted.what());
    return flex::cli::kInterrupted;
  } catch (const std::exception& error) {
    say_wrong(error.what());
    return kFailed;
  }
}
