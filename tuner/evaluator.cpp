#include "tuner/evaluator.h"

#include <cmath>

#include "base/require.h"
#include "costmodel/accuracy.h"

namespace flex {

std::string_view name(EvaluationSource source) {
  switch (source) {
    case EvaluationSource::kSimulated:
      return "simulated";
    case EvaluationSource::kMeasured:
      return "measured";
    case EvaluationSource::kRecorded:
      return "recorded";
  }
  return "?";
}

Evaluation evaluation_of(std::span<const std::int64_t> samples_ns, EvaluationSource source) {
  constexpr double kSigmaOfDeviation = 1.4826;
  constexpr double kMedianOfMean = 1.2533;  // sqrt(pi / 2)
  std::vector<double> samples_us;
  for (const std::int64_t ns : samples_ns) {
    require(ns > 0, "a sample of {} ns; durations are above 0", ns);
    samples_us.push_back(static_cast<double>(ns) * 1e-3);
  }
  const double sigma_us = kSigmaOfDeviation * median_absolute_deviation(samples_us);
  return {.duration_us = median(samples_us),
          .spread_us = kMedianOfMean * sigma_us / std::sqrt(static_cast<double>(samples_us.size())),
          .samples_ns = {samples_ns.begin(), samples_ns.end()},
          .source = source};
}

Evaluation Evaluator::evaluate(const Plan& plan, Pass pass) {
  ++num_evaluations_;
  return run(plan, pass);
}

}  // namespace flex
