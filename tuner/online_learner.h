#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <vector>

#include "tuner/drift_detector.h"
#include "tuner/online_settings.h"
#include "tuner/parameter_belief.h"
#include "tuner/plan_region.h"

/// Private to the online policy.
namespace flex {

/// What observations of all layers teach about one machine: its cost parameters, residuals of plans, how much
/// measurements scatter, and whether the machine has changed.
class OnlineLearner {
 public:
  /// `costs` must live as long.
  OnlineLearner(const CostModel& costs, const OnlineSettings& settings);

  [[nodiscard]] const ParameterBelief& belief() const { return belief_; }
  /// Of the logarithm of one measurement of this pass.
  [[nodiscard]] double noise_variance(Pass pass) const { return noise_variance_[index(pass)]; }

  /// Simulates `region` with what is believed now, first or again. What its plans were known to take remains
  /// known, less sure where the new model disagrees.
  void build(PlanRegion& region);

  /// A plan of `region`, which must live as long, took `duration_us` > 0 in one pass. True if the machine has
  /// changed: the belief is wider then.
  bool observe(PlanRegion& region, Pass pass, std::int32_t place, std::int64_t capacity, double duration_us);

  /// Variance of what `other` takes less than `incumbent`, in microseconds squared; `forward_us` and
  /// `backward_us` as PlanRegion::expect() gave them.
  [[nodiscard]] double saving_variance(const PlanRegion& region, const PlanRegion::Pair& incumbent,
                                       const PlanRegion::Pair& other, const Eigen::VectorXd& forward_us,
                                       const Eigen::VectorXd& backward_us) const;
  /// Standard deviation of the logarithm of one plan's duration.
  [[nodiscard]] double sigma(const PlanRegion& region, Pass pass, std::int32_t place) const;

  /// Of the last observation: what it differed by from what was expected, in logarithms.
  [[nodiscard]] double last_surprise() const { return last_surprise_; }

 private:
  /// Whose residual a slot is.
  struct Owner {
    PlanRegion* region = nullptr;
    Pass pass = Pass::kForward;
    Plan plan;
    std::int64_t last_observed = 0;
  };

  /// What was too far off to be believed, until the detectors know what it was.
  struct Outlier {
    BeliefForm form;
    double surprise = 0;
    double variance = 0;  ///< that it was expected to have, noise included
  };

  [[nodiscard]] static std::size_t index(Pass pass) { return static_cast<std::size_t>(pass); }
  void give_slot(PlanRegion& region, Pass pass, std::int32_t place);
  void learn_change();
  /// The logarithm of what is expected, for the plans of a region that have slots.
  [[nodiscard]] double expected_log_us(const PlanRegion& region, Pass pass, std::int32_t place) const;
  void learn_noise(PlanRegion::Record& record, Pass pass, double over_model);

  const CostModel& costs_;
  ModelErrors errors_;
  ParameterBelief belief_;
  std::array<double, 2> noise_variance_;
  std::array<DriftDetector, 2> detectors_;
  std::vector<Outlier> outliers_;  // the latest, in a ring; the first num_outliers_ if those are fewer
  std::size_t num_outliers_ = 0;
  std::vector<Owner> owners_;  // by slot
  std::int64_t num_observations_ = 0;
  double last_surprise_ = 0;
  mutable BeliefForm form_;  // scratch
};

}  // namespace flex
