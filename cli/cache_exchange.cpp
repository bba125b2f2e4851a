#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/build_facts.h"
#include "base/json.h"
#include "base/require.h"
#include "cli/cache_commands.h"
#include "cli/checks.h"
#include "tuner/interchange.h"

// flexmoe cache export FILE|import FILE...|merge FILE...|prune
namespace flex::cli {
namespace {

// A run sets a file aside that is none of ours; a command that was given a wrong name must not.
TuningCache open_to_write(const std::string& path) {
  require(!path.empty(),
          "no tuning cache: neither FLEX_CACHE nor XDG_CACHE_HOME nor HOME is set; name one with --cache");
  if (std::filesystem::exists(path)) (void)read_for_command(path);
  return TuningCache::open(path);
}

void require_kept(const TuningCache& cache) {
  require<CacheError>(cache.is_persistent(), "{}: nothing was changed, because it cannot be written",
                      cache.path().string());
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

void export_to(const CacheCommandOptions& options) {
  require(options.format != "t1" || !options.case_name.empty(),
          "--format t1 describes the plans of one case: name it with --case");
  TuningCache cache = read_for_command(options.cache);
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

void import_from(const CacheCommandOptions& options) {
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

void merge_from(const CacheCommandOptions& options) {
  std::vector<TuningCache> others;
  for (const std::string& file : options.files) others.push_back(read_for_command(file));
  TuningCache cache = open_to_write(options.cache);
  CacheMerge sum;
  for (TuningCache& other : others) {
    const CacheMerge merge = cache.merge(other);
    sum.num_trials += merge.num_trials;
    sum.num_decisions += merge.num_decisions;
    sum.num_parts += merge.num_parts;
  }
  require_kept(cache);
  fmt::print("{}: {} new trial(s), {} new or changed decision(s), samples of {} new part(s)\n", options.cache,
             sum.num_trials, sum.num_decisions, sum.num_parts);
}

void prune(const CacheCommandOptions& options) {
  constexpr double kNsPerDay = 86'400e9;
  CachePruning pruning{.bad_rows = options.bad_rows};
  if (options.other_builds) pruning.only_build = build_name();
  if (options.older_than_days) {
    pruning.trials_before_ns = now_ns() - static_cast<std::int64_t>(*options.older_than_days * kNsPerDay);
  }
  require(pruning.bad_rows || pruning.only_build || pruning.trials_before_ns,
          "say what is to go: --older-than DAYS, --other-builds or --bad-rows");
  // A cache that was only read is a copy in memory.
  TuningCache cache = options.dry_run ? read_for_command(options.cache) : open_to_write(options.cache);
  const std::int64_t count = cache.prune(pruning);
  if (!options.dry_run) require_kept(cache);
  fmt::print("{}: {} trial(s), decision(s) and sample(s) {}\n", options.cache, count,
             options.dry_run ? "would be removed" : "removed");
}

}  // namespace

void add_cache_exchange(CLI::App& app) {
  const auto [export_command, export_options] = add_cache_command(
      app, "export", "Write trials as T4 results, or the plans of a case as a T1 space", export_to);
  export_command->add_option("file", export_options->files, "A JSON file")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  export_command->add_option("--format", export_options->format, "t4 or t1")
      ->check(CLI::IsMember({"t4", "t1"}))
      ->capture_default_str();
  export_command->add_option("--case", export_options->case_name, "Only this case (all)")->type_name("NAME");
  const auto [import_command, import_options] =
      add_cache_command(app, "import", "Take over trials from T4 results", import_from);
  import_command->add_option("files", import_options->files, "JSON files that export wrote")
      ->required()
      ->check(CLI::ExistingFile);
  const auto [merge_command, merge_options] =
      add_cache_command(app, "merge", "Take over what other caches know", merge_from);
  merge_command->add_option("files", merge_options->files, "Caches")->required()->type_name("FILE");
  const auto [prune_command, prune_options] =
      add_cache_command(app, "prune", "Remove what is no longer needed", prune);
  prune_command
      ->add_option("--older-than", prune_options->older_than_days, "Trials of DAYS ago that no plan rests on")
      ->check(not_negative());
  prune_command->add_flag("--other-builds", prune_options->other_builds,
                          "All that belongs to another version of Flex");
  prune_command->add_flag("--bad-rows", prune_options->bad_rows, "Rows with wrong checksums");
  prune_command->add_flag("--dry-run", prune_options->dry_run, "Only say how much");
  export_command->footer(
      "Examples:\n"
      "  flexmoe cache export results.json\n"
      "  flexmoe cache export space.json --format t1 --case 3f2a");
  import_command->footer("Example:\n  flexmoe cache import results.json --cache tuning.db");
  merge_command->footer("Example:\n  flexmoe cache merge other.db another.db");
  prune_command->footer(
      "Examples:\n"
      "  flexmoe cache prune --older-than 90 --dry-run\n"
      "  flexmoe cache prune --other-builds --bad-rows");
  for (const auto& [command, options] :
       {std::pair(export_command, export_options), std::pair(import_command, import_options),
        std::pair(merge_command, merge_options), std::pair(prune_command, prune_options)}) {
    add_cache_option(*command, *options);
  }
}

}  // namespace flex::cli
