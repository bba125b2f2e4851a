#include "cli/tune_options.h"

#include "cli/checks.h"

namespace flex::cli {

std::vector<StrategyKind> strategies_of(const TuneOptions& options) {
  std::vector<StrategyKind> kinds;
  for (const std::string& text : options.strategies) {
    if (text == "all") return {std::begin(kStrategyKinds), std::end(kStrategyKinds)};
    kinds.push_back(parse_strategy(text));
  }
  return kinds;
}

SearchBudget budget_of(const TuneOptions& options) {
  SearchBudget budget{.max_fraction = options.max_fraction};
  if (options.max_evaluations > 0) budget.max_evaluations = options.max_evaluations;
  if (options.max_seconds > 0) budget.max_seconds = options.max_seconds;
  return budget;
}

namespace {

void add_search_options(CLI::App& command, TuneOptions& options) {
  command
      .add_option("--strategy", options.strategies,
                  "exhaustive, random, dictionary, model, local (several, with commas), or all")
      ->type_name("{exhaustive,random,dictionary,model,local,all}")
      ->delimiter(',')
      ->capture_default_str();
  command
      .add_option("--max-evaluations", options.max_evaluations,
                  "Of one strategy and layer, each one plan in one pass (0: as many as it wants)")
      ->check(not_negative())
      ->capture_default_str();
  command
      .add_option("--max-seconds", options.max_seconds,
                  "No evaluation of a strategy and layer begins later (0: no limit)")
      ->check(not_negative())
      ->capture_default_str();
  command.add_option("--max-fraction", options.max_fraction, "Of all plans, at most this part is evaluated")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--seed", options.seed, "Of tokens, searches and noise")->capture_default_str();
  add_memory_limit(command, options.memory_limit_bytes,
                   "Plans whose layer needs more on a rank are left out");
}

}  // namespace

void add_tune_options(CLI::App& command, TuneOptions& options) {
  add_layer_options(command, options.layer);
  command
      .add_option(
          "--grid", options.grid,
          "Layers out of a JSON file, {\"tokens\": [512, 1024], \"hidden_dim\": ...}: every combination")
      ->check(CLI::ExistingFile);
  add_rank_options(command, options.machine);
  const AddedClusterOptions described = add_cluster_instead_of_ranks(
      command, options.described, "Simulate this cluster instead: a built-in one, or a file");
  add_search_options(command, options);
  command.add_option("--pass", options.pass, "forward or training (forward and backward)")
      ->check(CLI::IsMember({"forward", "training"}))
      ->capture_default_str();
  command.add_option("--noise", options.noise, "Of simulated evaluations, as a fraction")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(described.cluster)
      ->capture_default_str();
  command
      .add_option("--precision", options.precision,
                  "Measured: repeat until the median is known to this fraction")
      ->check(CLI::Range(1e-4, 1.0))
      ->capture_default_str();
  command
      .add_option("--cache", options.cache,
                  "Where results are kept; otherwise FLEX_CACHE, or tuning.db in flexmoe's folder of the "
                  "user's caches; none: nowhere")
      ->type_name("FILE");
  command.add_flag("--fresh", options.fresh, "Measure again what the cache knows");
  command.add_flag("--json", options.json, "Print JSON");
}

}  // namespace flex::cli
