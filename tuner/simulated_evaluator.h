#pragma once

#include <cstdint>
#include <memory>

#include "base/philox.h"
#include "costmodel/cost_model.h"
#include "tuner/evaluator.h"

namespace flex {

class PassSimulator;

/// How simulated evaluations differ from the truth.
struct SimulatedNoise {
  double relative_spread = 0;  ///< sigma of a lognormal factor on each evaluation, whose median is 1
  double drift = 0;            ///< evaluation i (from 0) takes exp(i * drift) times as long
  std::uint64_t seed = 0;
};

/// Evaluates by a cost model's word: the machine that is not there. All ranks get equal numbers of tokens.
class SimulatedEvaluator final : public Evaluator {
 public:
  /// `costs`, of this cluster, must live as long. @throws InputError for a spread below 0.
  SimulatedEvaluator(const Workload& workload, const Cluster& cluster, const CostModel& costs,
                     const SimulatedNoise& noise = {});
  ~SimulatedEvaluator() override;

  /// The virtual time of all evaluations.
  [[nodiscard]] double elapsed_s() const override { return elapsed_s_; }

  /// Without noise and drift, and not counted. @throws InputError for a plan that cannot run.
  [[nodiscard]] double truth_us(const Plan& plan, Pass pass);

 private:
  [[nodiscard]] Evaluation run(const Plan& plan, Pass pass) override;

  std::unique_ptr<PassSimulator> simulator_;
  const CostModel& costs_;
  SimulatedNoise noise_;
  PhiloxStream random_;
  double elapsed_s_ = 0;
};

}  // namespace flex
