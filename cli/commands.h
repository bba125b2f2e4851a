#pragma once

#include <CLI/CLI.hpp>

/// The subcommands of `flexmoe`, one file each. Each adds itself to the program; its callback prints results
/// on stdout and nothing else there, throws InputError for bad input (exit 2) and other errors for failures
/// (exit 1), and may set the exit code.
///
/// One option name means one thing in all of them; -o,--output is the file that the command is there to
/// write.
namespace flex::cli {

/// What a command leaves for main().
struct Outcome {
  int exit_code = 0;
};

void add_bench(CLI::App& app, Outcome& outcome);
void add_cache(CLI::App& app, Outcome& outcome);
void add_checkpoint(CLI::App& app, Outcome& outcome);
void add_cluster(CLI::App& app, Outcome& outcome);
void add_completion(CLI::App& app);
void add_demo(CLI::App& app, Outcome& outcome);
void add_doctor(CLI::App& app, Outcome& outcome);
void add_eval(CLI::App& app, Outcome& outcome);
void add_explain(CLI::App& app, Outcome& outcome);
void add_infer(CLI::App& app, Outcome& outcome);
void add_profile(CLI::App& app, Outcome& outcome);
void add_model(CLI::App& app);
void add_replay(CLI::App& app, Outcome& outcome);
void add_report(CLI::App& app);
void add_simulate(CLI::App& app, Outcome& outcome);
void add_train(CLI::App& app, Outcome& outcome);
void add_tune(CLI::App& app, Outcome& outcome);
void add_trace(CLI::App& app, Outcome& outcome);
void add_verify(CLI::App& app, Outcome& outcome);

}  // namespace flex::cli
