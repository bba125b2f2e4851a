#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

#include "base/philox.h"
#include "costmodel/parameter_scaling.h"
#include "tests/tuner/cases.h"
#include "tuner/pass_simulator.h"
#include "tuner/plan_policy.h"
#include "tuner/policy_context.h"

namespace flex {

/// So that GoogleTest prints pairs in words.
inline void PrintTo(const PlanPair& plans, std::ostream* out) {
  *out << to_string(plans.forward) << " / " << to_string(plans.backward);
}

}  // namespace flex

/// Loads and machines that the tests of policies share.
namespace flex::testing {

inline constexpr PlanPair kDefaultPlans{kDefaultPlan, kDefaultPlan};

inline LayerLoad load_at(const SearchProblem& problem, std::int64_t capacity, double max_over_mean = 1) {
  LayerLoad load{.workload = problem.workload, .max_over_mean = max_over_mean};
  load.workload.capacity = capacity;
  return load;
}

/// `costs` with every parameter off by a factor of its own.
inline CostModel disturbed(const CostModel& costs, const Cluster& cluster, double sigma, std::uint64_t seed) {
  std::vector<double> factors(num_scalable(costs.parameters()));
  PhiloxStream random(seed);
  for (double& factor : factors) factor = std::exp(sigma * random.normal());
  return {cluster, scaled(costs.parameters(), factors)};
}

/// `costs` with the bandwidth of the links between nodes times `factor`.
inline CostModel with_link(const CostModel& costs, const Cluster& cluster, double factor) {
  CostParameters parameters = costs.parameters();
  parameters.inter_node.bandwidth_efficiency *= factor;
  return {cluster, parameters};
}

/// Runs passes on a simulated machine, with noise.
class SimulatedMachine {
 public:
  SimulatedMachine(Cluster cluster, double noise, std::uint64_t seed)
      : cluster_(std::move(cluster)), noise_(noise), random_(seed) {}

  [[nodiscard]] double truth_us(const CostModel& costs, const LayerLoad& load, const Plan& plan, Pass pass) {
    PassSimulator simulator(load.workload, cluster_);
    simulator.prepare(plan, pass);
    return simulator.duration_us(costs);
  }
  [[nodiscard]] PassDurations run(const CostModel& costs, const LayerLoad& load, const PlanPair& plans) {
    const auto measured_ns = [&](Pass pass) {
      const double factor = std::exp(noise_ * random_.normal());
      return std::llround(1e3 * factor * truth_us(costs, load, plans.of(pass), pass));
    };
    const std::int64_t forward_ns = measured_ns(Pass::kForward);
    return {.forward_ns = forward_ns, .backward_ns = measured_ns(Pass::kBackward)};
  }

 private:
  Cluster cluster_;
  double noise_;
  PhiloxStream random_;
};

}  // namespace flex::testing
