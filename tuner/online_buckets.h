#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "tuner/load_bucket.h"
#include "tuner/online_learner.h"
#include "tuner/pair_choice.h"
#include "tuner/policy_context.h"

/// Private to the online policy.
namespace flex {

/// The buckets of loads that were seen, the plans that they run with, and what is learned of them. Buckets
/// stay where they are.
class OnlineBuckets {
 public:
  /// `context` must live as long.
  explicit OnlineBuckets(const PolicyContext& context);

  /// Which shape this is; it is added if it was not seen.
  [[nodiscard]] std::size_t shape_of(const Workload& workload);
  [[nodiscard]] const BucketShape& shape(std::size_t index) const { return shapes_[index]; }
  /// A load's own bucket; it is opened, and simulated where no neighbour was, if it was not seen.
  [[nodiscard]] LoadBucket& at(std::size_t shape, const LayerLoad& load);
  /// The same, or null. Changes nothing.
  [[nodiscard]] const LoadBucket* find(const LayerLoad& load) const;

  /// Chooses the bucket's plans by what is believed now. Allocates nothing.
  void decide(LoadBucket& bucket);
  /// Looks for a pair that is worth trying, now and then.
  void seek_trying(LoadBucket& bucket);
  /// The fastest pair that may run at this very load; nothing if none may.
  [[nodiscard]] std::optional<PlanPair> fastest_at(LoadBucket& bucket, const LayerLoad& load);

  /// One pass of an iteration in `bucket`. True if the machine has changed: all buckets are open then.
  bool learn(LoadBucket& bucket, const LayerLoad& load, Pass pass, const Plan& plan, double duration_us);
  /// Simulates the bucket's region again if what is believed has left the model far behind.
  void follow(LoadBucket& bucket);

  [[nodiscard]] BucketView view(const LoadBucket& bucket) const;
  [[nodiscard]] const OnlineLearner& learner() const { return learner_; }
  [[nodiscard]] std::int64_t num_models() const { return num_models_; }

 private:
  void open(LoadBucket& bucket, std::size_t shape, const LayerLoad& load);
  [[nodiscard]] std::optional<PlanPair> cached_plans(std::size_t shape, const LayerLoad& load) const;
  void rebuild(PlanRegion& region);
  /// After the region's plans have changed.
  void refresh(LoadBucket& bucket);
  void reopen();
  void look_at(const LoadBucket& bucket);
  static void set_incumbent(LoadBucket& bucket, const PlanRegion::Pair& pair);

  const PolicyContext& context_;
  OnlineLearner learner_;
  PairChoice choice_;
  std::vector<BucketShape> shapes_;
  std::map<BucketPlace, std::unique_ptr<PlanRegion>> regions_;
  std::map<BucketPlace, LoadBucket> buckets_;
  std::int64_t num_models_ = 0;
};

}  // namespace flex
