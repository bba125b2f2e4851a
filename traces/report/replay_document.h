#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json_object.h"

/// The document that `flexmoe replay` writes (docs/replay-format.md), as far as a report shows it. What a
/// document leaves out is empty.
namespace flex {

/// By layer, by point (of a series).
template <class T>
using ByLayer = std::vector<std::vector<std::optional<T>>>;

/// One of the policies that were replayed.
struct ReportPolicy {
  std::string name;
  std::string resolved;  ///< plans behind `best-static`; may be empty
  double total_us = 0;
  std::optional<double> error_us;
  std::optional<double> speedup_over_default;
  std::optional<double> speedup_over_best_static;
  std::optional<double> regret_us;
  std::optional<double> regret_share;
  std::optional<std::int64_t> peak_bytes;
  std::optional<bool> fits;
  std::optional<std::int64_t> infeasible_steps;
  std::optional<std::int64_t> plan_changes;
  std::vector<std::pair<std::string, double>> class_us;  ///< in the order of OperationClass
  std::vector<std::string> plans;
  std::vector<std::optional<double>> step_us;         ///< by point
  std::vector<std::optional<double>> step_regret_us;  ///< by point
  ByLayer<double> plan;                               ///< indices into `plans`

  /// Part of the time that tokens travel between ranks.
  [[nodiscard]] double exchange_share() const;
  [[nodiscard]] bool is_static() const { return name.starts_with("static:"); }
};

struct ReportSpan {
  int rank = 0;
  std::string stream;
  std::string pass;
  std::string name;
  double start_us = 0;
  double end_us = 0;
  std::optional<std::int64_t> chunk;
};

struct ReportTimeline {
  std::string policy;
  std::int64_t step = 0;
  std::int64_t layer = 0;
  std::string plans;
  double total_us = 0;
  std::size_t num_ranks = 0;
  std::int64_t world = 0;
  std::vector<ReportSpan> spans;
};

/// Part of the choices of each (layer, bin of steps) that want the experts of a cell.
struct ReportLoad {
  std::vector<std::int64_t> layers;
  std::vector<std::int64_t> first_step;
  std::int64_t steps_per_bin = 1;
  std::int64_t experts_per_cell = 1;
  std::vector<std::vector<std::vector<double>>> share;
};

struct ReportScenario {
  std::string name;
  std::string cluster;
  std::int64_t nodes = 0;
  std::int64_t world = 0;
  std::vector<std::string> changes;
  std::string reshard;      ///< may be empty
  std::string calibration;  ///< where the model's parameters are from
  bool fitted = true;
  std::optional<std::int64_t> dropped;
  std::optional<double> dropped_share;
  std::vector<ReportPolicy> policies;  ///< at least one
  std::vector<std::int64_t> first_step;
  std::int64_t steps_per_point = 1;
  ByLayer<double> needed_capacity;
  ByLayer<double> capacity;
  std::optional<ReportLoad> load;
  std::optional<ReportTimeline> timeline;

  /// Whose story is told first: `online`; else the fastest one that chooses; else the fastest one.
  [[nodiscard]] std::size_t main_policy() const;
};

struct ReportScalingPoint {
  std::string scenario;
  std::int64_t ranks = 0;
  std::string policy;
  double total_us = 0;
};

struct ReplayDocument {
  std::string trace;
  std::string model;
  std::string hardware;
  std::string source;
  std::string damage;
  std::int64_t world = 0;
  std::int64_t layers = 0;
  std::int64_t steps = 0;
  std::int64_t iterations = 0;
  std::vector<std::int64_t> experts;      ///< by layer; may be empty
  std::vector<ReportScenario> scenarios;  ///< at least one
  std::vector<ReportScalingPoint> scaling;
};

inline constexpr std::int64_t kNewestReplayDocument = 1;

/// @throws InputError with file and key: what is there must be right; a version above kNewestReplayDocument.
[[nodiscard]] ReplayDocument parse_replay_document(JsonObject document);

}  // namespace flex
