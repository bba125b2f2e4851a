#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "costmodel/calibration.h"
#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "runtime/profile_sweep.h"
#include "runtime/validation_recording.h"

namespace flex {

/// Prediction against execution on this host, with in-process ranks on its processor or on one GPU.
struct ValidationSettings {
  Device device = Device::cpu();
  int world = 2;
  int num_pairs = 60;                  ///< of a shape and a plan, none of which was used in the calibration
  std::optional<int> plans_per_shape;  ///< of those; nothing: all plans of a layer, but for the last
  /// Layers err each in its own way: many shapes with a few plans say more than many plans of a few shapes.
  int num_calibration_shapes = 12;
  int plans_per_calibration_shape = 5;
  DType dtype = DType::kF32;
  WorkRange range;                        ///< gpu_work_range() is for a GPU
  RangeClock clock = RangeClock::kMarks;  ///< of operations
  std::uint64_t seed = 1;
  double budget_s = 90;  ///< of measuring, calibration and passes in turns
  int min_rounds = 5;
};

/// Measures both halves in turns, round after round, so that a host that is slower for a while is so for
/// both.
/// @throws InputError for settings that cannot be.
[[nodiscard]] ValidationRecording record_validation(const ValidationSettings& settings,
                                                    const BudgetProgress& progress = {});

/// What a prediction of one pass is worth.
struct PassPrediction {
  MeasuredPass measured;
  double predicted_us = 0;
  double band_us = 0;  ///< that the model gives itself, see CriticalPath::error_us
  [[nodiscard]] double relative_error() const;
};

/// How well the plans of one shape are ordered in one pass.
struct ShapeOrder {
  LayerShape shape;
  Pass pass = Pass::kForward;
  int num_plans = 0;
  std::optional<double> tau;  ///< Kendall's tau-b; nothing where no two plans differ by more than the noise
  double regret = 0;          ///< of the plan that the model takes for the best
};

/// How well the time of one kind of operation in a pass is predicted, alone.
struct KindError {
  OperationKind kind = OperationKind::kGate;
  int num_passes = 0;
  double median_error = 0;  ///< of its time in a pass
  double share = 0;         ///< of the time of all operations alone
};

/// How well single operations are predicted that the model has not seen, measured alone.
struct OperationError {
  OperationKind kind = OperationKind::kGate;
  int num_samples = 0;
  double mean_error = 0;
  double median_error = 0;
  double p95_error = 0;
  double share = 0;  ///< of the time of all samples, each counted once
};
struct OperationReport {
  std::vector<OperationError> kinds;  ///< by share, largest first
  int num_compute = 0;                ///< samples of compute operations
  double compute_mean_error = 0;      ///< over these; they count alike
  double compute_median_error = 0;
};
/// Pure. Empty for a recording without held-out operations. @throws InputError like CostModel::cost_of().
[[nodiscard]] OperationReport compare_operations(const ValidationRecording& recording,
                                                 const CostModel& costs);

struct ValidationReport {
  std::vector<PassPrediction> passes;
  std::vector<ShapeOrder> orders;
  std::vector<KindError> kinds;  ///< by share, largest first
  double mean_error = 0;         ///< of a pass, forward and backward together
  double median_error = 0;
  double forward_error = 0;
  double backward_error = 0;
  double mean_tau = 0;     ///< over the orders that have one
  double mean_regret = 0;  ///< over all orders
  double max_regret = 0;
  double within_band = 0;  ///< fraction of passes whose error is within the model's own band
};

/// Simulates all passes of a recording with `costs`, and compares. Pure.
/// @throws InputError for a recording without passes.
[[nodiscard]] ValidationReport compare_with_execution(const ValidationRecording& recording,
                                                      const Cluster& cluster, const OperationCosts& costs);

/// The ranks of a recording as a described cluster: one processor, or one GPU, that all of them share.
[[nodiscard]] Cluster cluster_of(const ValidationRecording& recording);

/// The model that the samples and calibration passes of a recording give: see calibrate_with_passes().
/// `with_table`: and a table of the samples. On a host between sizes that were measured it follows the noise
/// of single samples, by which plans that are close come in another order.
/// @throws InputError like calibrate().
[[nodiscard]] CostModel calibrated_costs(const ValidationRecording& recording, const Cluster& cluster,
                                         bool with_table = false);

/// All of a validation: what was measured, the model that its samples gave, and what that is worth.
struct ValidationRun {
  ValidationRecording recording;
  Cluster cluster;
  CostModel costs;
  ValidationReport report;
  OperationReport operations;
};

/// Calibrates, and compares with what was held out. Pure. @throws InputError like its parts.
[[nodiscard]] ValidationRun evaluate_validation(ValidationRecording recording, bool with_table = false);

/// Records on this host, calibrates, compares.
[[nodiscard]] ValidationRun validate_prediction(const ValidationSettings& settings,
                                                const BudgetProgress& progress = {}, bool with_table = false);

}  // namespace flex
