#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"
#include "costmodel/cost_sample.h"

namespace flex {

struct CalibrationSettings {
  int num_folds = 5;       ///< of held-out residuals
  std::uint64_t seed = 1;  ///< of the folds
  /// Relative residuals beyond this many of their spread lose weight.
  double huber_threshold = 1.5;
  /// Samples of a kind that let it have parameters of its own, if these predict held-out samples better.
  std::int64_t min_kind_samples = 4;
};

/// How well a calibration predicts samples that it has not seen.
struct KindFit {
  std::int64_t num_samples = 0;
  double median_error = 0;  ///< of |predicted / measured - 1| of held-out samples
  double p95_error = 0;     ///< below which 95% of them are
  double band = 0;          ///< below which 68.3% of them are: what becomes CostParameters::relative_error
  bool own_parameters = false;
};

/// How well whole passes with one All-to-All algorithm are predicted, see calibrate_with_passes().
struct PassFit {
  std::int64_t num_passes = 0;
  double median_error = 0;            ///< of |predicted / measured - 1| of passes of held-out layers
  double within_operations_band = 0;  ///< fraction of them whose error those of their operations explain
};

/// Parameters fitted to samples.
struct CalibrationResult {
  CostParameters parameters;
  std::array<KindFit, kNumOperationKinds> kinds{};       ///< by OperationKind
  std::array<PassFit, kNumAllToAllAlgorithms> passes{};  ///< by AllToAllAlgorithm; nothing from calibrate()
  std::int64_t num_samples = 0;                          ///< used: beside nothing, and longer than nothing
  std::int64_t num_overlap_samples = 0;
  /// Parameters that no sample depends on, by their keys in the JSON format: those of `start` were kept.
  std::vector<std::string> kept;

  [[nodiscard]] const KindFit& of(OperationKind kind) const { return kinds[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] std::vector<OperationKind> kinds_without_samples() const;
};

/// Fits parameters to operations that were measured on `cluster`: least squares of relative errors with no
/// parameter below zero, robust to outliers (Huber, iteratively reweighted), towards `start` where samples
/// leave a choice. contention_exponent, base_memory_GiB, the TF32 flags and pass_relative_error are start's.
/// Overlap is fitted from samples with `beside`: their time beside the other stream, added up, over what the
/// same work takes alone by samples of equal sizes or else by the fit. What the host needs to queue an
/// operation is, by kind, the mean of samples alone that say it, otherwise start's. Deterministic: the order
/// of samples does not matter but for rounding.
/// @throws InputError for no usable sample, or settings out of range.
/// @source Huber, "Robust Estimation of a Location Parameter", 1964; Lawson and Hanson, "Solving Least
/// Squares Problems", 1974, chapter 23
[[nodiscard]] CalibrationResult calibrate(const Cluster& cluster, std::span<const CostSample> samples,
                                          const CostParameters& start,
                                          const CalibrationSettings& settings = {});

/// The same as what goes into a file. `source`: who measured, e.g. the command.
[[nodiscard]] Calibration to_calibration(const CalibrationResult& result, const Cluster& cluster,
                                         const std::string& source);

}  // namespace flex
