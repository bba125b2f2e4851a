#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tuner/cache.h"

/// What the subcommands of `flexmoe cache` share.
namespace flex::cli {

struct CacheCommandOptions {
  std::string cache = default_cache_path().string();
  bool json = false;
  std::string case_name;
  std::vector<std::string> files;
  std::string format = "t4";
  std::optional<double> older_than_days;
  bool other_builds = false;
  bool bad_rows = false;
  bool dry_run = false;
};

/// The cache as it is, without touching the file. @throws InputError if it is none, or not there.
[[nodiscard]] TuningCache read_for_command(const std::string& path);

/// The one case whose name begins with `prefix`. @throws InputError
[[nodiscard]] CachedCase find_case(TuningCache& cache, const std::string& prefix);

/// A subcommand that calls run(options).
template <class Run>
std::pair<CLI::App*, std::shared_ptr<CacheCommandOptions>> add_cache_command(CLI::App& cache,
                                                                             const char* name,
                                                                             const char* help, Run run) {
  CLI::App* command = cache.add_subcommand(name, help);
  auto options = std::make_shared<CacheCommandOptions>();
  command->callback([options, run] { run(*options); });
  return {command, options};
}

void add_cache_option(CLI::App& command, CacheCommandOptions& options);

/// export, import, merge, prune.
void add_cache_exchange(CLI::App& cache);

}  // namespace flex::cli
