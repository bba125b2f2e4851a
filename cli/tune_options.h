#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/cluster_options.h"
#include "cli/layer_options.h"
#include "cli/rank_options.h"
#include "tuner/cache.h"
#include "tuner/tune.h"

/// The options of `flexmoe tune`.
namespace flex::cli {

/// What `flexmoe tune` is called with.
struct TuneOptions {
  LayerOptions layer;
  RankOptions machine;
  ClusterOptions described;
  std::string grid;
  std::vector<std::string> strategies = {"model"};
  std::string pass = "training";
  std::int64_t max_evaluations = 0;
  double max_seconds = 0;
  double max_fraction = 1;
  std::uint64_t seed = 1;
  double noise = 0;
  double precision = 0.02;
  std::string cache = default_cache_path().string();
  bool fresh = false;
  std::uint64_t memory_limit_bytes = 0;
  bool json = false;

  [[nodiscard]] bool keeps_results() const { return !cache.empty() && cache != "none"; }
  [[nodiscard]] bool is_simulated() const { return !described.cluster.empty(); }
  [[nodiscard]] Passes passes() const { return pass == "forward" ? Passes::kForward : Passes::kBoth; }
};

/// @throws InputError for a name that is no strategy's.
[[nodiscard]] std::vector<StrategyKind> strategies_of(const TuneOptions& options);
[[nodiscard]] SearchBudget budget_of(const TuneOptions& options);

void add_tune_options(CLI::App& command, TuneOptions& options);

}  // namespace flex::cli
