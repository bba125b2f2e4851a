#include "tuner/online_buckets.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "tuner/fastest_pair.h"
#include "tuner/trial.h"

namespace flex {
namespace {

/// In sigmas of the model's errors: parameters that moved further make a region be simulated again, but not
/// before so many iterations since.
constexpr double kFarFromModel = 1.5;
constexpr std::int64_t kLeastVisitsOfModel = 16;
/// A pair that is worth trying is looked for again after so many visits; after twice as many, up to a bound,
/// each time that none is found.
constexpr std::int64_t kLookGap = 4;
constexpr std::int64_t kLargestLookGap = 32;
/// A pair is expected to be of use for as many iterations as its region has seen, between these.
constexpr double kLeastUses = 64;
constexpr double kMostUses = 4096;

BucketPlace place_of(std::size_t shape, const LayerLoad& load) {
  require(load.workload.capacity >= 0, "capacity is {}; it is zero or more", load.workload.capacity);
  return {shape, bucket_span(load.workload.capacity).low, imbalance_bucket(load.max_over_mean)};
}

}  // namespace

OnlineBuckets::OnlineBuckets(const PolicyContext& context)
    : context_(context), learner_(*context.costs, context.online), choice_(context.online) {}

std::size_t OnlineBuckets::shape_of(const Workload& workload) {
  const auto known =
      std::ranges::find_if(shapes_, [&](const BucketShape& shape) { return shape.matches(workload); });
  const auto index = static_cast<std::size_t>(known - shapes_.begin());
  if (known == shapes_.end()) shapes_.emplace_back(workload);
  return index;
}

LoadBucket& OnlineBuckets::at(std::size_t shape, const LayerLoad& load) {
  const BucketPlace place = place_of(shape, load);
  if (const auto found = buckets_.find(place); found != buckets_.end()) return found->second;
  LoadBucket bucket;
  const CapacitySpan span = region_span(load.workload.capacity);
  auto& region = regions_[{shape, span.low, place.imbalance}];
  if (!region) region = std::make_unique<PlanRegion>(load, span, context_.cluster, context_.passes);
  bucket.region = region.get();
  bucket.span = bucket_span(load.workload.capacity);
  if (region->version() == 0) rebuild(*region);
  open(bucket, shape, load);
  return buckets_.emplace(place, std::move(bucket)).first->second;
}

const LoadBucket* OnlineBuckets::find(const LayerLoad& load) const {
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    if (!shapes_[i].matches(load.workload)) continue;
    const auto found = buckets_.find(place_of(i, load));
    return found == buckets_.end() ? nullptr : &found->second;
  }
  return nullptr;
}

void OnlineBuckets::open(LoadBucket& bucket, std::size_t shape, const LayerLoad& load) {
  const std::optional<PlanPair> cached = cached_plans(shape, load);
  if (cached) {
    bool is_known = true;
    for (const Plan& plan : {cached->forward, cached->backward}) {
      if (bucket.region->place_of(plan)) continue;
      bucket.region->pin(plan);
      is_known = false;
    }
    if (!is_known) rebuild(*bucket.region);
    bucket.plans = *cached;
    bucket.settled = true;
  }
  refresh(bucket);
}

std::optional<PlanPair> OnlineBuckets::cached_plans(std::size_t shape, const LayerLoad& load) const {
  const CacheSnapshot* snapshot = context_.snapshot;
  if (snapshot == nullptr || snapshot->environment() != context_.environment) return std::nullopt;
  TuningCase one = case_of(load.workload, load.max_over_mean);
  one.pass = Pass::kForward;
  const CacheSnapshot::Entry* forward = snapshot->find(shapes_[shape].id(), one);
  if (forward == nullptr || !forward->is_complete) return std::nullopt;
  PlanPair plans{forward->plan, forward->plan};
  if (context_.passes != Passes::kForward) {
    one.pass = Pass::kBackward;
    one.given_degree = forward->plan.parallel_degree;
    const CacheSnapshot::Entry* backward = snapshot->find(shapes_[shape].id(), one);
    if (backward == nullptr || !backward->is_complete) return std::nullopt;
    plans.backward = backward->plan;
  }
  if (!can_pair(plans.forward, plans.backward) || !context_.allows(load, plans)) return std::nullopt;
  return plans;
}

void OnlineBuckets::refresh(LoadBucket& bucket) {
  LayerLoad largest = bucket.region->first();
  largest.workload.capacity = bucket.span.high;
  bucket.allowed.clear();
  for (const Plan& plan : bucket.region->plans()) {
    bucket.allowed.push_back(context_.allows(largest, plan) ? 1 : 0);
  }
  bucket.trying.reset();
  const auto forward = bucket.region->place_of(bucket.plans.forward);
  const auto backward = bucket.region->place_of(bucket.plans.backward);
  const bool is_known = (bucket.visits > 0 || bucket.settled) && forward && backward;
  if (is_known) return set_incumbent(bucket, {*forward, *backward});
  look_at(bucket);
  set_incumbent(bucket, choice_.fastest().value_or(PlanRegion::Pair{}));
}

void OnlineBuckets::set_incumbent(LoadBucket& bucket, const PlanRegion::Pair& pair) {
  bucket.incumbent = pair;
  bucket.plans = bucket.region->plans_of(pair);
}

void OnlineBuckets::rebuild(PlanRegion& region) {
  learner_.build(region);
  ++num_models_;
  for (auto& [place, bucket] : buckets_) {
    if (bucket.region == &region) refresh(bucket);
  }
}

void OnlineBuckets::look_at(const LoadBucket& bucket) {
  choice_.look_at(*bucket.region, learner_, bucket.span.middle(), bucket.allowed);
}

void OnlineBuckets::decide(LoadBucket& bucket) {
  if (bucket.settled) return;
  look_at(bucket);
  const std::optional<PlanRegion::Pair> best = choice_.fastest();
  if (best && *best != bucket.incumbent && choice_.beats(*best, bucket.incumbent)) {
    set_incumbent(bucket, *best);
    bucket.trying.reset();
    bucket.next_look = bucket.visits;
  }
}

void OnlineBuckets::seek_trying(LoadBucket& bucket) {
  if (bucket.settled || bucket.visits < bucket.next_look) return;
  look_at(bucket);
  const double uses = std::clamp(static_cast<double>(bucket.region->visits()), kLeastUses, kMostUses);
  bucket.trying = choice_.most_promising(bucket.incumbent, uses);
  bucket.look_gap = bucket.trying ? kLookGap : std::min(2 * bucket.look_gap, kLargestLookGap);
  bucket.next_look = bucket.visits + bucket.look_gap;
}

std::optional<PlanPair> OnlineBuckets::fastest_at(LoadBucket& bucket, const LayerLoad& load) {
  std::vector<std::uint8_t> allowed;
  for (const Plan& plan : bucket.region->plans()) allowed.push_back(context_.allows(load, plan) ? 1 : 0);
  choice_.look_at(*bucket.region, learner_, load.workload.capacity, allowed);
  const std::optional<PlanRegion::Pair> best = choice_.fastest();
  if (!best) return std::nullopt;
  return bucket.region->plans_of(*best);
}

bool OnlineBuckets::learn(LoadBucket& bucket, const LayerLoad& load, Pass pass, const Plan& plan,
                          double duration_us) {
  const auto place = bucket.region->place_of(plan);
  if (!place || duration_us <= 0) return false;
  const bool changed = learner_.observe(*bucket.region, pass, *place, load.workload.capacity, duration_us);
  if (changed) reopen();
  return changed;
}

void OnlineBuckets::reopen() {
  for (auto& [place, bucket] : buckets_) {
    bucket.settled = false;
    bucket.trying.reset();
    bucket.next_look = bucket.visits;
    bucket.look_gap = kLookGap;
  }
}

void OnlineBuckets::follow(LoadBucket& bucket) {
  PlanRegion& region = *bucket.region;
  if (region.visits_since_build() < kLeastVisitsOfModel) return;
  if (region.distance(learner_.belief()) > kFarFromModel) rebuild(region);
}

BucketView OnlineBuckets::view(const LoadBucket& bucket) const {
  BucketView view{.least_capacity = bucket.span.low,
                  .largest_capacity = bucket.span.high,
                  .is_settled = bucket.settled,
                  .plans = bucket.plans};
  const PlanRegion& region = *bucket.region;
  const auto count = static_cast<std::int32_t>(region.plans().size());
  Eigen::VectorXd us[2] = {Eigen::VectorXd(count), Eigen::VectorXd(count)};
  for (const Pass pass : passes_of(region.passes())) {
    region.expect(learner_.belief(), pass, bucket.span.middle(), us[static_cast<std::size_t>(pass)]);
  }
  for (std::int32_t place = 0; place < count; ++place) {
    for (const Pass pass : passes_of(region.passes())) {
      const double expected_us = us[static_cast<std::size_t>(pass)][place];
      view.candidates.push_back({.plan = region.plans()[static_cast<std::size_t>(place)],
                                 .pass = pass,
                                 .expected_us = expected_us,
                                 .sigma_us = expected_us * learner_.sigma(region, pass, place),
                                 .num_observations = region.record(pass, place).num_observations,
                                 .is_incumbent = bucket.incumbent.of(pass) == place});
    }
  }
  return view;
}

}  // namespace flex
