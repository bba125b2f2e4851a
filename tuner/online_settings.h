#pragma once

#include <cstdint>
#include <vector>

#include "costmodel/plan_pair.h"
#include "costmodel/workload.h"

namespace flex {

/// How the online policy learns and chooses. A plain value.
struct OnlineSettings {
  /// Of the time of all iterations, at most this much goes into iterations that try plans.
  double exploration_share = 0.02;
  /// How far the model may be off, as the sigma of the logarithm of each of its parameters.
  double parameter_error = 0.15;
  /// The same of each plan and pass by itself: what no parameter explains.
  double candidate_error = 0.02;
  /// Relative spread of measurements that is assumed until they show their own.
  double measurement_spread = 0.05;
  /// Plans change only to save at least this share of their time, ...
  double least_saving = 0.005;
  /// ... and only if the saving is at least so many standard deviations.
  double least_significance = 1;
};

/// What an online policy has done so far.
struct OnlineStatistics {
  std::int64_t iterations = 0;           ///< observed, of all layers
  std::int64_t explored_iterations = 0;  ///< of them: tried plans
  std::int64_t total_ns = 0;             ///< time of all iterations
  std::int64_t explored_ns = 0;          ///< of those that tried plans
  std::int64_t switches = 0;             ///< a layer's exploited plans changed
  std::int64_t bucket_changes = 0;       ///< a layer's load moved to another bucket
  std::int64_t flaps = 0;       ///< switches back to plans left since the last change of bucket or re-opening
  std::int64_t reopenings = 0;  ///< the machine was found to have changed
  std::int64_t models = 0;      ///< candidates of a range of loads were simulated, first or again
};

/// What a bucket knows of one plan in one pass.
struct CandidateView {
  Plan plan;
  Pass pass = Pass::kForward;
  double expected_us = 0;
  double sigma_us = 0;  ///< standard deviation of what is believed, noise of measurements left out
  std::int64_t num_observations = 0;  ///< in this range of loads
  bool is_incumbent = false;          ///< runs now
};

/// A bucket of loads, for people.
struct BucketView {
  std::int64_t least_capacity = 0;  ///< C of the bucket, both included
  std::int64_t largest_capacity = 0;
  bool is_settled = false;  ///< its plans come from a complete decision of the cache: nothing is tried
  PlanPair plans;           ///< that run now
  /// Plans in ascending order, with a forward and a backward entry each; those that the model puts far behind
  /// are left out.
  std::vector<CandidateView> candidates;
};

}  // namespace flex
