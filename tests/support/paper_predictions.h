#pragma once

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "costmodel/baseline.h"
#include "costmodel/cost_model.h"
#include "costmodel/pass_calibration.h"
#include "tests/support/paper_figures.h"

/// What the cost model says of the published figures. All in r = 1, fp32 with TF32 products.
namespace flex::testing {

/// The cluster of all figures.
inline constexpr const char* kPaperCluster = "azure_ndv4_a100";

/// One comparison.
struct ComparedFigure {
  std::string what;
  double published = 0;
  double predicted = 0;
  double tolerance = 0;  ///< of the relative difference; 0: nothing is asked
  bool in_fit = false;   ///< parameters were fitted to it
  [[nodiscard]] double residual() const { return predicted / published - 1; }
  [[nodiscard]] bool holds() const { return tolerance == 0 || std::abs(residual()) <= tolerance; }
};

/// Average gains over static choices, as PipeliningGains.
struct PipeliningPrediction {
  int gpus = 0;
  std::array<double, 8> percent{};
  int pairs = 0;  ///< of choices whose published gains differ by 3 points or more
  int right_order = 0;

  static constexpr double kAsked = 0.85;  ///< of the pairs
  [[nodiscard]] bool holds() const { return right_order >= kAsked * pairs; }
};

/// What is asked of 2DH at 2,048 GPUs.
inline constexpr double kLeastGainOfHierarchical = 1.8;

/// Step times of one layer over scale, in seconds.
struct ScalingPrediction {
  int gpus = 0;
  double deepspeed_s = 0, linear_s = 0, hierarchical_s = 0;

  static constexpr double kTie = 0.05;  ///< largest difference of a tie, at 256 GPUs
  [[nodiscard]] double ratio() const { return hierarchical_s / linear_s; }
  /// 2DH and linear are on the published sides of each other: nothing is asked at 16 GPUs.
  [[nodiscard]] bool is_on_the_right_side() const;
};

/// A published step of the scaling curves beside its band.
struct BandPrediction {
  std::string what;
  AllToAllAlgorithm algorithm = AllToAllAlgorithm::kLinear;
  PassResidual residual;
  double band_us = 0;  ///< CriticalPath::error_us
  [[nodiscard]] bool is_within() const {
    return std::abs(residual.predicted_us - residual.measured_us) <= band_us;
  }
};

/// Predicts with `parameters` on Azure NDv4.
class PaperPredictions {
 public:
  explicit PaperPredictions(const CostParameters& parameters) : parameters_(parameters) {}

  [[nodiscard]] std::vector<ComparedFigure> layer_shares() const;
  [[nodiscard]] std::vector<ComparedFigure> scaling() const;
  /// Speedups over Fairseq first, then the gain of each technique.
  [[nodiscard]] std::vector<ComparedFigure> speedups() const;
  [[nodiscard]] std::vector<ComparedFigure> memory() const;
  /// Of the same steps as scaling().
  [[nodiscard]] std::vector<BandPrediction> scaling_bands() const;
  /// 16 to 2,048 GPUs.
  [[nodiscard]] std::vector<ScalingPrediction> scaling_curve() const;
  [[nodiscard]] Gains gains(int gpus) const;
  [[nodiscard]] PipeliningPrediction pipelining(const PipeliningGains& published) const;

 private:
  CostParameters parameters_;
};

/// fit_pass_error() of the steps with one algorithm; those of one number of GPUs are one layer.
[[nodiscard]] double needed_pass_error(const std::vector<BandPrediction>& bands, AllToAllAlgorithm algorithm);

/// What is asked of the predictions and does not hold, each in words; empty if all does.
[[nodiscard]] std::vector<std::string> broken_lines(const PaperPredictions& predictions);

}  // namespace flex::testing
