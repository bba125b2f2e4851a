#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tuner/plan_policy.h"

namespace flex::testing {

/// A policy that does what a test says, and remembers what it was asked and told.
class ScriptedPolicy final : public PlanPolicy {
 public:
  using Choose = std::function<PlanPair(std::int64_t layer, const LayerLoad& load)>;

  struct Asked {
    std::int64_t layer = 0;
    LayerLoad load;
    PlanPair plans;
  };
  struct Told {
    std::int64_t layer = 0;
    LayerLoad load;
    PlanPair plans;
    PassDurations durations;
  };

  explicit ScriptedPolicy(Choose choose) : choose_(std::move(choose)) {}

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override {
    asked.push_back({layer, load, choose_(layer, load)});
    return asked.back().plans;
  }
  void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
               const PassDurations& durations) override {
    told.push_back({layer, load, plans, durations});
    if (on_observe) on_observe();
  }
  [[nodiscard]] std::uint64_t state_hash() const override { return hash; }

  std::vector<Asked> asked;
  std::vector<Told> told;
  std::uint64_t hash = 1;
  std::function<void()> on_observe;

 private:
  Choose choose_;
};

}  // namespace flex::testing
