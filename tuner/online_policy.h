#pragma once

#include <memory>
#include <optional>

#include "tuner/online_settings.h"
#include "tuner/plan_policy.h"
#include "tuner/policy_context.h"

namespace flex {

/// Learns while the model runs. One belief over the logarithms of the cost model's parameters is shared by
/// all layers and loads: what an iteration teaches about a link is true for every plan that uses it. It runs
/// the plans with the smallest expected time, tries others within a share of the run time, and begins to
/// learn again where the machine has changed. docs/tuning.md tells how.
///
/// Loads of one bucket (capacity and imbalance as in the tuning cache) have one pair of plans; a layer keeps
/// its bucket until its load has left that by a quarter of its width. A load that was not seen before is
/// simulated in choose(); observe() simulates again where the parameters have moved far.
class OnlinePolicy final : public PlanPolicy {
 public:
  /// @throws InputError without a model, or for settings that cannot be.
  explicit OnlinePolicy(PolicyContext context);
  ~OnlinePolicy() override;

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
               const PassDurations& durations) override;
  /// Of all calls so far, and of what was concluded from them.
  [[nodiscard]] std::uint64_t state_hash() const override;

  [[nodiscard]] OnlineStatistics statistics() const;
  /// The bucket of this load; nothing if it was not seen.
  [[nodiscard]] std::optional<BucketView> explain(const LayerLoad& load) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flex
