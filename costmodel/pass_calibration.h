#pragma once

#include <span>

#include "costmodel/calibration.h"
#include "costmodel/pass_sequence.h"

namespace flex {

/// How long one pass of a layer took as a whole, run as planned; a backward pass right after its forward
/// pass.
struct PassSample {
  LayerStack stack;        ///< forward or backward
  double measured_us = 0;  ///< above 0
};

/// A prediction of one, beside what was measured.
struct PassResidual {
  double predicted_us = 0;
  double operations_band_us = 0;  ///< CriticalPath::error_us from the errors of its operations alone
  double measured_us = 0;
};

/// The relative error of whole passes, e, with which at least 68.3% of passes of another layer are expected
/// within sqrt(operations_band_us^2 + (e predicted_us)^2). Passes of one layer err alike, so that
/// `num_layers` of them are as many draws: of the residuals here it is not 68.3% but (1 + 1 / num_layers)
/// times as many that have to be within, all of them for one or two layers. 0 if they are so without it.
/// @throws InputError for no residuals or layers, or a time that is not above 0.
/// @source Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005: split conformal
/// prediction
[[nodiscard]] double fit_pass_error(std::span<const PassResidual> residuals, std::int64_t num_layers);

/// calibrate(), and for the algorithms of `passes` CostParameters::pass_relative_error: fit_pass_error() of
/// predictions by parameters that were fitted without the samples of the pass's own layer (all of equal
/// sizes), since a fit to these would make the errors too small; with all of them if no others are left.
/// Refits once for each workload.
/// @throws InputError like calibrate(), and for a pass that cannot be simulated or took no time.
[[nodiscard]] CalibrationResult calibrate_with_passes(const Cluster& cluster,
                                                      std::span<const CostSample> samples,
                                                      std::span<const PassSample> passes,
                                                      const CostParameters& start,
                                                      const CalibrationSettings& settings = {});

}  // namespace flex
