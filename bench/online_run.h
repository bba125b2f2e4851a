#pragma once

#include <cstdint>
#include <vector>

#include "bench/online_machine.h"
#include "tuner/online_settings.h"
#include "tuner/policy.h"

namespace flex::bench {

/// How a run goes.
struct OnlineRunSettings {
  int num_iterations = 5000;
  double noise = 0.05;        ///< sigma of a lognormal factor on each measurement of a pass
  double model_error = 0.15;  ///< of each parameter of the policies' model
  OnlineSettings online{};
};

/// One policy in one run, by the truth without noise.
struct PolicyOutcome {
  double total_us = 0;
  OnlineStatistics statistics;  ///< of the online policy; of others, what can be said of any
};

/// One run: all policies with equal loads, noise and model.
struct OnlineRun {
  double oracle_us = 0;
  double default_us = 0;
  double best_static_us = 0;
  PlanPair best_static;
  PolicyOutcome dictionary, model, online;
};

/// Runs `machine` through all policies. The oracle and the static plans are summed up, not run.
[[nodiscard]] OnlineRun run_policies(const OnlineSetting& setting, OnlineMachine& machine,
                                     const OnlineRunSettings& settings, std::uint64_t seed);

}  // namespace flex::bench
