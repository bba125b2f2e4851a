#include "tuner/simulated_evaluator.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "costmodel/plan_space.h"
#include "tuner/pass_simulator.h"

namespace flex {

SimulatedEvaluator::SimulatedEvaluator(const Workload& workload, const Cluster& cluster,
                                       const CostModel& costs, const SimulatedNoise& noise)
    : simulator_(std::make_unique<PassSimulator>(workload, cluster)),
      costs_(costs),
      noise_(noise),
      random_(noise.seed) {
  require(noise.relative_spread >= 0, "a relative spread of {}; it is 0 or more", noise.relative_spread);
}

SimulatedEvaluator::~SimulatedEvaluator() = default;

double SimulatedEvaluator::truth_us(const Plan& plan, Pass pass) {
  simulator_->prepare(plan, pass);
  return simulator_->duration_us(costs_);
}

Evaluation SimulatedEvaluator::run(const Plan& plan, Pass pass) {
  Evaluation result{.source = EvaluationSource::kSimulated};
  if (auto why_not = why_illegal(plan, simulator_->workload(), simulator_->cluster())) {
    result.why_not = *std::move(why_not);
    return result;
  }
  const auto index = static_cast<double>(num_evaluations() - 1);
  const double factor = std::exp(noise_.relative_spread * random_.normal() + index * noise_.drift);
  result.duration_us = truth_us(plan, pass) * factor;
  result.spread_us = noise_.relative_spread * result.duration_us;
  result.samples_ns = {std::max<std::int64_t>(std::llround(result.duration_us * 1e3), 1)};
  elapsed_s_ += result.duration_us * 1e-6;
  return result;
}

}  // namespace flex
