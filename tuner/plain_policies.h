#pragma once

#include <cstdint>
#include <unordered_map>

#include "tuner/plan_policy.h"
#include "tuner/policy_context.h"

/// Private to make_policy(): policies that learn nothing from what they observe.
namespace flex {

/// A layer and a bucket of its capacity.
struct LayerBucket {
  std::int64_t layer = 0;
  std::int32_t bucket = 0;  ///< capacity_bucket

  LayerBucket(std::int64_t layer, const LayerLoad& load);
  /// Of equal bits on every machine.
  [[nodiscard]] std::uint64_t hash() const;
  friend bool operator==(const LayerBucket&, const LayerBucket&) = default;

  struct Hash {
    std::size_t operator()(const LayerBucket& key) const noexcept {
      return static_cast<std::size_t>(key.hash());
    }
  };
};

/// The fastest pair that may run at `load`, by `duration_us(plan, pass)`; the default plan if none may.
[[nodiscard]] PlanPair fastest_allowed(const PolicyContext& context, const LayerLoad& load,
                                       const std::function<double(const Plan&, Pass)>& duration_us);

/// One pair of plans; where that may not run, the default plan, which is said once, by the rank that speaks.
class StaticPolicy final : public PlanPolicy {
 public:
  StaticPolicy(const PlanPair& plans, PolicyContext context);

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t, const LayerLoad&, const PlanPair&, const PassDurations&) override {}
  [[nodiscard]] std::uint64_t state_hash() const override;

 private:
  void warn_once(const LayerLoad& load);

  PlanPair plans_;
  PolicyContext context_;
  bool has_warned_ = false;
};

/// The pair that the cost model says is fastest at the first load of each bucket.
class ModelPolicy final : public PlanPolicy {
 public:
  /// @throws InputError without a model.
  explicit ModelPolicy(PolicyContext context);

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t, const LayerLoad&, const PlanPair&, const PassDurations&) override {}
  [[nodiscard]] std::uint64_t state_hash() const override { return hash_; }

 private:
  PolicyContext context_;
  std::unordered_map<LayerBucket, PlanPair, LayerBucket::Hash> plans_;
  std::uint64_t hash_ = 0;
};

/// The truth's fastest pair at each load: what others are measured by.
class OraclePolicy final : public PlanPolicy {
 public:
  /// @throws InputError without a truth.
  explicit OraclePolicy(PolicyContext context);

  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t, const LayerLoad&, const PlanPair&, const PassDurations&) override {}
  [[nodiscard]] std::uint64_t state_hash() const override { return 0; }

 private:
  PolicyContext context_;
};

}  // namespace flex
