#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/cache_commands.h"
#include "cli/cache_table.h"
#include "cli/commands.h"

// flexmoe cache list|show CASE|diff LEFT RIGHT|export FILE|import FILE...|merge FILE...|prune|verify
// The tuning cache; docs/cache.md says what is in it.
namespace flex::cli {

// Without touching it.
TuningCache read_for_command(const std::string& path) {
  require(!path.empty(),
          "no tuning cache: neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME is set; name one with --cache");
  require(std::filesystem::exists(path),
          "there is no tuning cache {}; name another with --cache, or make one by import or merge", path);
  return TuningCache::open(path, {.mode = CacheMode::kRead});
}

// The one case whose name begins with `prefix`.
CachedCase find_case(TuningCache& cache, const std::string& prefix) {
  std::vector<CachedCase> found;
  for (CachedCase& one : cache.cases()) {
    if (case_name(one.key).starts_with(prefix)) found.push_back(std::move(one));
  }
  require(!found.empty(), "{}: there is no case '{}'; `flexmoe cache list` names them", cache.path().string(),
          prefix);
  require(found.size() == 1, "{}: {} cases begin with '{}'; give more digits", cache.path().string(),
          found.size(), prefix);
  return std::move(found.front());
}

void add_cache_option(CLI::App& command, CacheCommandOptions& options) {
  command
      .add_option("--cache", options.cache,
                  "The file; otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the user's caches")
      ->type_name("FILE");
}

namespace {

void list(const CacheCommandOptions& options) {
  TuningCache cache = read_for_command(options.cache);
  const std::vector<CachedCase> cases = cache.cases();
  if (options.json) {
    fmt::print("{}\n", cases_json(cases).dump(2));
    return;
  }
  fmt::print("{}", cases_text(cases));
  if (cache.num_bad_rows() > 0) {
    fmt::print("{} row(s) with wrong checksums are not shown; see `flexmoe cache verify`\n",
               cache.num_bad_rows());
  }
}

void show(const CacheCommandOptions& options) {
  TuningCache cache = read_for_command(options.cache);
  const CachedCase one = find_case(cache, options.case_name);
  const std::vector<Trial> trials = cache.trials(one.key);
  options.json ? fmt::print("{}\n", case_json(one, trials).dump(2))
               : fmt::print("{}", case_text(one, trials));
}

std::vector<CaseDifference> compare(TuningCache& left, TuningCache& right) {
  std::map<std::string, CaseDifference> cases;
  for (const CachedCase& one : left.cases())
    cases[case_name(one.key)] = {one.key, one.decision, std::nullopt};
  for (const CachedCase& one : right.cases()) {
    CaseDifference& both = cases[case_name(one.key)];
    both.key = one.key;
    both.right = one.decision;
  }
  std::vector<CaseDifference> differences;
  for (const auto& [name, both] : cases) {
    const bool is_same = both.left.has_value() == both.right.has_value() &&
                         (!both.left || both.left->plan == both.right->plan);
    if (!is_same) differences.push_back(both);
  }
  return differences;
}

// As diff(1): exit code 1 if there are differences.
void diff(const CacheCommandOptions& options, Outcome& outcome) {
  TuningCache left = read_for_command(options.files[0]);
  TuningCache right = read_for_command(options.files[1]);
  const std::vector<CaseDifference> differences = compare(left, right);
  if (options.json) {
    fmt::print("{}\n", differences_json(differences).dump(2));
  } else if (differences.empty()) {
    fmt::print("the same plans\n");
  } else {
    fmt::print("{}", differences_text(differences));
  }
  outcome.exit_code = differences.empty() ? 0 : 1;
}

void verify_cache(const CacheCommandOptions& options, Outcome& outcome) {
  TuningCache cache = read_for_command(options.cache);
  const std::vector<std::string> found = cache.verify();
  const std::vector<CachedCase> cases = cache.cases();
  std::int64_t num_trials = 0;
  std::int64_t num_decisions = 0;
  for (const CachedCase& one : cases) {
    num_trials += one.num_trials;
    num_decisions += one.decision ? 1 : 0;
  }
  outcome.exit_code = found.empty() ? 0 : 1;
  if (options.json) {
    const nlohmann::ordered_json json = {{"ok", found.empty()},
                                         {"cases", cases.size()},
                                         {"trials", num_trials},
                                         {"decisions", num_decisions},
                                         {"findings", found}};
    fmt::print("{}\n", json.dump(2));
    return;
  }
  for (const std::string& line : found) fmt::print("{}: {}\n", options.cache, line);
  fmt::print("{}: {}, {} case(s), {} trial(s), {} decision(s)\n", options.cache,
             found.empty() ? "ok" : "NOT ok", cases.size(), num_trials, num_decisions);
}

void add_reading(CLI::App& app, Outcome& outcome) {
  const auto [list_command, list_options] =
      add_cache_command(app, "list", "Every case with the plan that was found", list);
  const auto [show_command, show_options] =
      add_cache_command(app, "show", "A case with all its trials", show);
  show_command->add_option("case", show_options->case_name, "Its name in the list, or the beginning")
      ->required()
      ->type_name("NAME");
  const auto [diff_command, diff_options] =
      add_cache_command(app, "diff", "Cases with other plans; exit code 1 if there are any",
                        [&outcome](const CacheCommandOptions& options) { diff(options, outcome); });
  diff_command->add_option("files", diff_options->files, "Two caches")
      ->required()
      ->expected(2)
      ->type_name("FILE");
  const auto [verify_command, verify_options] = add_cache_command(
      app, "verify", "Check the file and the checksum of every row; exit code 1 if anything is wrong",
      [&outcome](const CacheCommandOptions& options) { verify_cache(options, outcome); });
  list_command->footer("Example:\n  flexmoe cache list");
  show_command->footer("Example:\n  flexmoe cache show 3f2a --cache tuning.db");
  diff_command->footer("Example:\n  flexmoe cache diff before.db after.db");
  verify_command->footer("Example:\n  flexmoe cache verify --cache tuning.db");
  for (const auto& [command, options] :
       {std::pair(list_command, list_options), std::pair(show_command, show_options),
        std::pair(verify_command, verify_options)}) {
    add_cache_option(*command, *options);
  }
  for (const auto& [command, options] :
       {std::pair(list_command, list_options), std::pair(show_command, show_options),
        std::pair(diff_command, diff_options), std::pair(verify_command, verify_options)}) {
    command->add_flag("--json", options->json, "Print JSON");
  }
}

}  // namespace

void add_cache(CLI::App& app, Outcome& outcome) {
  CLI::App* command =
      app.add_subcommand("cache", "Look at the tuning cache, exchange and clean what it holds");
  command->require_subcommand(1);
  add_reading(*command, outcome);
  add_cache_exchange(*command);
}

}  // namespace flex::cli
