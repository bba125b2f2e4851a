#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tuner/online_learner.h"
#include "tuner/plan_region.h"

/// Private to the online policy.
namespace flex {

/// A pair of plans that is worth trying.
struct Trying {
  PlanRegion::Pair pair;
  double expected_us = 0;
};

/// Compares the pairs of plans of a region by what is believed of them. Its memory is used again: nothing
/// here allocates once it has seen as many plans.
class PairChoice {
 public:
  explicit PairChoice(const OnlineSettings& settings) : settings_(settings) {}

  /// Looks at a region at a capacity; what follows is about it. `allowed`: by plan, those that count; must
  /// live as long.
  void look_at(const PlanRegion& region, const OnlineLearner& learner, std::int64_t capacity,
               std::span<const std::uint8_t> allowed);

  [[nodiscard]] double total_us(const PlanRegion::Pair& pair) const {
    return us_[0][pair.forward] + us_[1][pair.backward];
  }
  /// With the smallest expected time; of equal ones the first. Nothing if none is allowed.
  [[nodiscard]] std::optional<PlanRegion::Pair> fastest() const;
  /// `other` saves enough, and surely enough, to take the place of `incumbent`.
  [[nodiscard]] bool beats(const PlanRegion::Pair& other, const PlanRegion::Pair& incumbent) const;
  /// What trying teaches most: the pair with the greatest expected gain over `uses` iterations, less what the
  /// iteration of trying costs itself. Nothing if none is expected to pay.
  /// @source knowledge gradient of one noisy observation: Frazier, Powell and Dayanik, "A Knowledge-Gradient
  /// Policy for Sequential Information Collection", SIAM J. Control Optim. 47 (2008)
  [[nodiscard]] std::optional<Trying> most_promising(const PlanRegion::Pair& incumbent, double uses);

 private:
  void collect_fastest(std::int32_t group);
  [[nodiscard]] double gain_of(const PlanRegion::Pair& other, const PlanRegion::Pair& incumbent) const;

  const OnlineSettings& settings_;
  const PlanRegion* region_ = nullptr;
  const OnlineLearner* learner_ = nullptr;
  std::span<const std::uint8_t> allowed_;
  Eigen::VectorXd us_[2];                 // by pass and plan
  std::vector<std::int32_t> fastest_[2];  // by pass: the few fastest plans of one group
};

}  // namespace flex
