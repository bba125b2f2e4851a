#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "costmodel/layer_load.h"
#include "costmodel/plan_pair.h"
#include "tuner/capacity_span.h"
#include "tuner/pair_choice.h"
#include "tuner/plan_region.h"

/// Private to the online policy.
namespace flex {

/// Loads that run with one pair of plans.
struct LoadBucket {
  PlanRegion* region = nullptr;  ///< that it lies in
  CapacitySpan span;
  std::vector<std::uint8_t> allowed;  ///< by plan of the region: may run at the bucket's largest capacity
  PlanRegion::Pair incumbent;
  PlanPair plans;                ///< the incumbent's
  bool settled = false;          ///< by a complete decision of the cache
  std::optional<Trying> trying;  ///< a pair that is worth trying
  std::int64_t visits = 0;
  std::int64_t next_look = 0;  ///< visit at which to look for such a pair again
  std::int64_t look_gap = 1;
};

/// Layers of one shape: all of a workload but its capacity, and its tokens only by their order of magnitude.
class BucketShape {
 public:
  explicit BucketShape(const Workload& workload);

  [[nodiscard]] bool matches(const Workload& other) const;
  [[nodiscard]] std::uint64_t id() const { return id_; }  ///< layer_id

 private:
  Workload workload_;  // without capacity and tokens
  int tokens_width_;
  std::uint64_t id_;
};

/// Where a bucket is found.
struct BucketPlace {
  std::size_t shape = 0;
  std::int64_t low = 0;  ///< of its span
  std::int32_t imbalance = 0;

  friend auto operator<=>(const BucketPlace&, const BucketPlace&) = default;
};

}  // namespace flex
