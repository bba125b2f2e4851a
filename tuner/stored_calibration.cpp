#include "tuner/stored_calibration.h"

#include <algorithm>

namespace flex {

std::vector<CostSample> stored_samples(TuningCache& cache, const Environment& environment) {
  std::vector<CostSample> samples;
  for (SamplePart& part : cache.samples(environment)) {
    samples.insert(samples.end(), part.samples.begin(), part.samples.end());
  }
  return samples;
}

std::optional<CalibrationResult> fit_stored_samples(TuningCache& cache, const Environment& environment,
                                                    const Cluster& cluster) {
  const std::vector<CostSample> samples = stored_samples(cache, environment);
  if (!std::ranges::any_of(samples, is_usable_alone)) return std::nullopt;
  return calibrate(cluster, samples, default_calibration(cluster).parameters);
}

std::optional<Calibration> stored_calibration(TuningCache& cache, const Environment& environment,
                                              const Cluster& cluster) {
  const auto fit = fit_stored_samples(cache, environment, cluster);
  if (!fit) return std::nullopt;
  return to_calibration(*fit, cluster, "flexmoe profile, tuning cache " + cache.path().string());
}

}  // namespace flex
