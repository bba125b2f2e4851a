#include "costmodel/pass_calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <vector>

#include "base/require.h"
#include "costmodel/accuracy.h"
#include "costmodel/calibration_fit.h"
#include "costmodel/cost_model.h"
#include "costmodel/cost_parameter_fields.h"
#include "costmodel/error_band.h"
#include "costmodel/pass_predictor.h"

namespace flex {
namespace {

AllToAllAlgorithm algorithm_of(const LayerStack& stack) {
  return (stack.passes == Passes::kBackward ? stack.backward : stack.forward).all_to_all;
}

double miss_us(const PassResidual& residual) {
  return std::abs(residual.predicted_us - residual.measured_us);
}

/// Passes of one layer are measurements of one thing: they are held out together.
struct PassesOfALayer {
  Workload workload;
  std::vector<const PassSample*> passes;
};

std::vector<PassesOfALayer> by_layer(std::span<const PassSample> passes) {
  std::vector<PassesOfALayer> layers;
  for (const PassSample& pass : passes) {
    Workload workload = pass.stack.workload;
    workload.pass = Pass::kForward;
    auto found = std::ranges::find(layers, workload, &PassesOfALayer::workload);
    if (found == layers.end()) found = layers.insert(layers.end(), {.workload = workload});
    found->passes.push_back(&pass);
  }
  return layers;
}

/// What is known of passes with one algorithm.
struct Residuals {
  std::vector<PassResidual> of;
  std::set<const PassesOfALayer*> layers;
};
using ByAlgorithm = std::array<Residuals, kNumAllToAllAlgorithms>;

class HeldOutPasses {
 public:
  HeldOutPasses(const Cluster& cluster, std::span<const CostSample> samples)
      : cluster_(cluster), samples_(samples) {}

  /// Samples that say nothing of the operations of this layer.
  [[nodiscard]] std::vector<CostSample> samples_of_others(const PassesOfALayer& layer) {
    std::set<Sizes> own;
    for (const PassSample* pass : layer.passes) {
      sequence_.build(pass->stack);
      for (const SimulatedPass& part : sequence_.passes()) {
        for (const Operation& operation : part.schedule->operations) {
          own.insert(sizes_of(work_of(sample_of(*part.schedule, operation, 0, cluster_.ranks_per_node))));
        }
      }
    }
    std::vector<CostSample> others;
    std::ranges::copy_if(samples_, std::back_inserter(others),
                         [&](const CostSample& sample) { return !own.contains(sizes_of(work_of(sample))); });
    return others;
  }

  void predict(ByAlgorithm& residuals, const PassesOfALayer& layer, CostParameters parameters) {
    parameters.pass_relative_error.fill(0);
    const CostModel costs(cluster_, parameters);
    for (const PassSample* pass : layer.passes) {
      const PassTime time = predictor_.predict(pass->stack, costs);
      Residuals& mine = residuals[static_cast<std::size_t>(algorithm_of(pass->stack))];
      mine.layers.insert(&layer);
      mine.of.push_back({.predicted_us = time.total_us,
                         .operations_band_us = time.error_us,
                         .measured_us = pass->measured_us});
    }
  }

 private:
  const Cluster& cluster_;
  std::span<const CostSample> samples_;
  PassSequence sequence_;
  PassPredictor predictor_;
};

PassFit fit_of(std::span<const PassResidual> residuals) {
  std::vector<double> errors;
  double within = 0;
  for (const PassResidual& residual : residuals) {
    errors.push_back(miss_us(residual) / residual.measured_us);
    within += miss_us(residual) <= residual.operations_band_us ? 1 : 0;
  }
  return {.num_passes = static_cast<std::int64_t>(residuals.size()),
          .median_error = median(errors),
          .within_operations_band = within / static_cast<double>(residuals.size())};
}

}  // namespace

double fit_pass_error(std::span<const PassResidual> residuals, std::int64_t num_layers) {
  require(!residuals.empty() && num_layers >= 1,
          "the error of passes from {} of them, of {} layers; there is at least one of each",
          residuals.size(), num_layers);
  std::vector<double> needed;
  needed.reserve(residuals.size());
  for (const PassResidual& residual : residuals) {
    require(residual.predicted_us > 0 && residual.measured_us > 0,
            "a pass of {} us that was predicted to take {} us; both are above 0", residual.measured_us,
            residual.predicted_us);
    const double square = std::pow(miss_us(residual), 2) - std::pow(residual.operations_band_us, 2);
    needed.push_back(std::sqrt(std::max(square, 0.0)) / residual.predicted_us);
  }
  const double part = kBandQuantile * (1 + 1 / static_cast<double>(num_layers));
  return quantile(std::move(needed), std::min(part, 1.0));
}

CalibrationResult calibrate_with_passes(const Cluster& cluster, std::span<const CostSample> samples,
                                        std::span<const PassSample> passes, const CostParameters& start,
                                        const CalibrationSettings& settings) {
  CalibrationResult result = calibrate(cluster, samples, start, settings);
  ByAlgorithm residuals;
  HeldOutPasses held_out(cluster, samples);
  const std::vector<PassesOfALayer> layers = by_layer(passes);
  for (const PassesOfALayer& layer : layers) {
    const std::vector<CostSample> others = held_out.samples_of_others(layer);
    const bool refit = std::ranges::any_of(others, is_usable_alone);
    held_out.predict(residuals, layer,
                     refit ? calibrate(cluster, others, start, settings).parameters : result.parameters);
  }
  for (std::size_t i = 0; i < residuals.size(); ++i) {
    const Residuals& mine = residuals[i];
    if (mine.of.empty()) continue;
    result.parameters.pass_relative_error[i] =
        fit_pass_error(mine.of, static_cast<std::int64_t>(mine.layers.size()));
    result.passes[i] = fit_of(mine.of);
    std::erase(result.kept, pass_error_key(static_cast<AllToAllAlgorithm>(i)));
  }
  return result;
}

}  // namespace flex
