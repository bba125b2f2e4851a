#pragma once

#include <optional>

#include "costmodel/calibration.h"
#include "tuner/cache.h"

namespace flex {

/// All samples of an environment, part after part.
[[nodiscard]] std::vector<CostSample> stored_samples(TuningCache& cache, const Environment& environment);

/// What the samples of an environment say of `cluster`, which stands for it; nothing if there are none, or
/// none that parameters can be fitted to. For the start `cluster`'s default parameters.
[[nodiscard]] std::optional<CalibrationResult> fit_stored_samples(TuningCache& cache,
                                                                  const Environment& environment,
                                                                  const Cluster& cluster);

/// The same as a calibration.
[[nodiscard]] std::optional<Calibration> stored_calibration(TuningCache& cache,
                                                            const Environment& environment,
                                                            const Cluster& cluster);

}  // namespace flex
