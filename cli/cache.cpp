#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/require.h"
#include "cli/cache_table.h"
#include "cli/commands.h"
#include "cli/version.h"
#include "tuner/interchange.h"

// flexmoe cache list|show CASE|diff LEFT RIGHT|export FILE|import FILE...|merge FILE...|prune|verify
// The tuning cache; docs/cache.md says what is in it.
namespace flex::cli {
namespace {

struct Options {
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

// Without touching it.
TuningCache read(const std::string& path) {
  require(!path.empty(),
          "no tuning cache: neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME is set; name one with --cache");
  require(std::filesystem::exists(path),
          "there is no tuning cache {}; name another with --cache, or make one by import or merge", path);
  return TuningCache::open(path, {.mode = CacheMode::kRead});
}

// A run sets a file aside that is none of ours; a command that was given a wrong name must not.
TuningCache open_to_write(const std::string& path) {
  require(!path.empty(),
          "no tuning cache: neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME is set; name one with --cache");
  if (std::filesystem::exists(path)) (void)read(path);
  return TuningCache::open(path);
}

void require_kept(const TuningCache& cache) {
  require<CacheError>(cache.is_persistent(), "{}: nothing was changed, because it cannot be written",
                      cache.path().string());
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

void list(const Options& options) {
  TuningCache cache = read(options.cache);
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

void show(const Options& options) {
  TuningCache cache = read(options.cache);
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
void diff(const Options& options, Outcome& outcome) {
  TuningCache left = read(options.files[0]);
  TuningCache right = read(options.files[1]);
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

nlohmann::ordered_json space_of(const TuningKey& key) {
  const int ranks_per_node = static_cast<int>(key.environment.ranks_per_node);
  require(ranks_per_node >= 1 && key.environment.world % ranks_per_node == 0,
          "case {}: {} ranks do not fill nodes of {}", case_name(key), key.environment.world, ranks_per_node);
  const Cluster cluster{.nodes = static_cast<int>(key.environment.world) / ranks_per_node,
                        .ranks_per_node = ranks_per_node};
  const Workload workload = workload_of(key);
  validate(workload);
  return to_t1(workload, cluster, key.one.given_degree);
}

void export_to(const Options& options) {
  require(options.format != "t1" || !options.case_name.empty(),
          "--format t1 describes the plans of one case: name it with --case");
  TuningCache cache = read(options.cache);
  std::vector<CachedCase> cases;
  if (options.case_name.empty()) {
    cases = cache.cases();
  } else {
    cases.push_back(find_case(cache, options.case_name));
  }
  if (options.format == "t1") {
    write_json_file(options.files[0], space_of(cases.front().key));
    return;
  }
  std::vector<KeyedTrial> trials;
  for (const CachedCase& one : cases) {
    for (Trial& trial : cache.trials(one.key)) trials.push_back({one.key, std::move(trial)});
  }
  write_json_file(options.files[0], to_t4(trials));
  fmt::print("{}: {} trial(s) of {} case(s)\n", options.files[0], trials.size(), cases.size());
}

void import_from(const Options& options) {
  // All files first: a bad one changes nothing.
  std::map<std::string, std::pair<TuningKey, std::vector<Trial>>> cases;
  for (const std::string& file : options.files) {
    for (KeyedTrial& keyed : parse_t4(read_json_file(file), file)) {
      auto& [key, trials] = cases[case_name(keyed.key)];
      key = keyed.key;
      trials.push_back(std::move(keyed.trial));
    }
  }
  TuningCache imported = TuningCache::in_memory();
  for (const auto& [name, one] : cases) imported.record(one.first, one.second, {.strategy = "import"});
  TuningCache cache = open_to_write(options.cache);
  const CacheMerge merge = cache.merge(imported);
  require_kept(cache);
  fmt::print("{}: {} new trial(s), {} new or changed decision(s)\n", options.cache, merge.num_trials,
             merge.num_decisions);
}

void merge_from(const Options& options) {
  std::vector<TuningCache> others;
  for (const std::string& file : options.files) others.push_back(read(file));
  TuningCache cache = open_to_write(options.cache);
  CacheMerge sum;
  for (TuningCache& other : others) {
    const CacheMerge merge = cache.merge(other);
    sum.num_trials += merge.num_trials;
    sum.num_decisions += merge.num_decisions;
  }
  require_kept(cache);
  fmt::print("{}: {} new trial(s), {} new or changed decision(s)\n", options.cache, sum.num_trials,
             sum.num_decisions);
}

void prune(const Options& options) {
  constexpr double kNsPerDay = 86'400e9;
  CachePruning pruning{.bad_rows = options.bad_rows};
  if (options.other_builds) pruning.only_build = build_facts().version;
  if (options.older_than_days) {
    pruning.trials_before_ns = now_ns() - static_cast<std::int64_t>(*options.older_than_days * kNsPerDay);
  }
  require(pruning.bad_rows || pruning.only_build || pruning.trials_before_ns,
          "say what is to go: --older-than DAYS, --other-builds or --bad-rows");
  // A cache that was only read is a copy in memory.
  TuningCache cache = options.dry_run ? read(options.cache) : open_to_write(options.cache);
  const std::int64_t count = cache.prune(pruning);
  if (!options.dry_run) require_kept(cache);
  fmt::print("{}: {} trial(s) and decision(s) {}\n", options.cache, count,
             options.dry_run ? "would be removed" : "removed");
}

void verify_cache(const Options& options, Outcome& outcome) {
  TuningCache cache = read(options.cache);
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

template <class Run>
std::pair<CLI::App*, std::shared_ptr<Options>> add(CLI::App& cache, const char* name, const char* help,
                                                   Run run) {
  CLI::App* command = cache.add_subcommand(name, help);
  auto options = std::make_shared<Options>();
  command->callback([options, run] { run(*options); });
  return {command, options};
}

void add_cache_option(CLI::App& command, Options& options) {
  command.add_option("--cache", options.cache,
                     "The file; otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the user's caches");
}

void add_reading(CLI::App& app, Outcome& outcome) {
  const auto [list_command, list_options] = add(app, "list", "Every case with the plan that was found", list);
  const auto [show_command, show_options] = add(app, "show", "A case with all its trials", show);
  show_command->add_option("case", show_options->case_name, "Its name in the list, or the beginning")
      ->required();
  const auto [diff_command, diff_options] =
      add(app, "diff", "Cases with other plans; exit code 1 if there are any",
          [&outcome](const Options& options) { diff(options, outcome); });
  diff_command->add_option("files", diff_options->files, "Two caches")->required()->expected(2);
  const auto [verify_command, verify_options] =
      add(app, "verify", "Check the file and the checksum of every row; exit code 1 if anything is wrong",
          [&outcome](const Options& options) { verify_cache(options, outcome); });
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

void add_exchange(CLI::App& app) {
  const auto [export_command, export_options] =
      add(app, "export", "Write trials as T4 results, or the plans of a case as a T1 space", export_to);
  export_command->add_option("file", export_options->files, "A JSON file")->required()->expected(1);
  export_command->add_option("--format", export_options->format, "t4 or t1")
      ->check(CLI::IsMember({"t4", "t1"}));
  export_command->add_option("--case", export_options->case_name, "Only this case");
  const auto [import_command, import_options] =
      add(app, "import", "Take over trials from T4 results", import_from);
  import_command->add_option("files", import_options->files, "JSON files that export wrote")
      ->required()
      ->check(CLI::ExistingFile);
  const auto [merge_command, merge_options] =
      add(app, "merge", "Take over what other caches know", merge_from);
  merge_command->add_option("files", merge_options->files, "Caches")->required();
  const auto [prune_command, prune_options] = add(app, "prune", "Remove what is no longer needed", prune);
  prune_command
      ->add_option("--older-than", prune_options->older_than_days, "Trials of DAYS ago that no plan rests on")
      ->check(CLI::NonNegativeNumber);
  prune_command->add_flag("--other-builds", prune_options->other_builds,
                          "All that belongs to another version of Flex");
  prune_command->add_flag("--bad-rows", prune_options->bad_rows, "Rows with wrong checksums");
  prune_command->add_flag("--dry-run", prune_options->dry_run, "Only say how much");
  for (const auto& [command, options] :
       {std::pair(export_command, export_options), std::pair(import_command, import_options),
        std::pair(merge_command, merge_options), std::pair(prune_command, prune_options)}) {
    add_cache_option(*command, *options);
  }
}

}  // namespace

void add_cache(CLI::App& app, Outcome& outcome) {
  CLI::App* command =
      app.add_subcommand("cache", "Look at the tuning cache, exchange and clean what it holds");
  command->require_subcommand(1);
  add_reading(*command, outcome);
  add_exchange(*command);
}

}  // namespace flex::cli
