#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "base/nearest_name.h"
#include "base/require.h"
#include "cli/commands.h"
#include "cli/version.h"

namespace {

// CLI11 would only say that a subcommand is required. Looks at the argument `at` and, below a subcommand that
// has some of its own, at those after it.
void require_known_subcommand(const CLI::App& app, int argc, char** argv, int at = 1) {
  const std::vector<const CLI::App*> commands = app.get_subcommands({});
  if (commands.empty() || argc <= at || argv[at][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    if (command->get_name() == argv[at]) return require_known_subcommand(*command, argc, argv, at + 1);
    names.push_back(command->get_name());
  }
  const std::optional<std::string> nearest = flex::nearest_name(argv[at], names);
  flex::fail("'{}' is no subcommand{}; there are {}", argv[at],
             nearest ? fmt::format(" (did you mean {}?)", *nearest) : "", fmt::join(names, ", "));
}

}  // namespace

// flexmoe SUBCOMMAND ...
// Exit 0: done; 1: failed while running, or a check did not pass; 2: wrong usage or bad input.
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
  try {
    require_known_subcommand(app, argc, argv);
    app.parse(argc, argv);
    return outcome.exit_code;
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::Error& error) {
    fmt::print(stderr, "flexmoe: {}. Run with --help for more information.\n", error.what());
    return kBadInput;
  } catch (const flex::InputError& error) {
    fmt::print(stderr, "flexmoe: {}\n", error.what());
    return kBadInput;
  } catch (const std::exception& error) {
    fmt::print(stderr, "flexmoe: {}\n", error.what());
    return kFailed;
  }
}
