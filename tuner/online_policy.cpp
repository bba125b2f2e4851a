#include "tuner/online_policy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "base/philox.h"
#include "base/require.h"
#include "tuner/online_buckets.h"
#include "tuner/trial.h"

namespace flex {
namespace {

constexpr double kUsPerNs = 1e-3;
/// What an iteration of trying may take above what is expected, in the account of the share.
constexpr double kReserve = 1.25;

void check(const OnlineSettings& s) {
  require(s.exploration_share >= 0 && s.exploration_share < 1,
          "exploration share {}: it is a share of the run time, from 0 to below 1", s.exploration_share);
  for (const double error : {s.parameter_error, s.candidate_error, s.measurement_spread}) {
    require(error > 0 && std::isfinite(error),
            "an error of the model or of measurements is {}; it is above 0", error);
  }
  require(s.least_saving >= 0 && s.least_significance >= 0,
          "plans change for a saving of {} at {} standard deviations; both are 0 or more", s.least_saving,
          s.least_significance);
}

/// Plans of one layer that ran since its bucket changed, to tell flaps.
class RecentPlans {
 public:
  void clear() { count_ = 0; }
  [[nodiscard]] bool contains(const PlanPair& plans) const {
    return std::find(plans_.begin(), plans_.begin() + count_, plans) != plans_.begin() + count_;
  }
  void add(const PlanPair& plans) {
    if (count_ < static_cast<std::ptrdiff_t>(plans_.size()))
      plans_[static_cast<std::size_t>(count_++)] = plans;
  }

 private:
  std::array<PlanPair, 8> plans_{};
  std::ptrdiff_t count_ = 0;
};

struct LayerState {
  LoadBucket* bucket = nullptr;
  std::size_t shape = 0;
  CapacitySpan keep;           ///< capacities at which it keeps its bucket
  double least_imbalance = 0;  ///< the same of the imbalance
  double largest_imbalance = 0;
  PlanPair exploited;  ///< its plans but for those that are tried, once it has_run
  bool has_run = false;
  RecentPlans left;
  std::optional<PlanPair> tried;  ///< what choose() answered last, if that was to try it
  double reserved_us = 0;         ///< for it
};

}  // namespace

class OnlinePolicy::Impl {
 public:
  explicit Impl(PolicyContext context) : context_(std::move(context)), buckets_(context_) {}

  PlanPair choose(std::int64_t layer, const LayerLoad& load);
  void observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
               const PassDurations& durations);
  [[nodiscard]] std::uint64_t state_hash() const { return hash_; }
  [[nodiscard]] OnlineStatistics statistics() const {
    OnlineStatistics statistics = statistics_;
    statistics.models = buckets_.num_models();
    return statistics;
  }
  [[nodiscard]] std::optional<BucketView> explain(const LayerLoad& load) const {
    const LoadBucket* bucket = buckets_.find(load);
    if (bucket == nullptr) return std::nullopt;
    return buckets_.view(*bucket);
  }

 private:
  LayerState& layer_at(std::int64_t layer);
  [[nodiscard]] bool keeps_bucket(const LayerState& state, const LayerLoad& load) const;
  void enter(LayerState& state, const LayerLoad& load);
  [[nodiscard]] PlanPair plans_that_run(LayerState& state, const LayerLoad& load);
  void note_exploited(LayerState& state, const PlanPair& plans);
  [[nodiscard]] bool is_affordable(double expected_us) const;
  void account(const LayerState& state, const PlanPair& plans, const PassDurations& durations);
  void learn(LoadBucket& bucket, const LayerLoad& load, const PlanPair& plans,
             const PassDurations& durations);
  void fold(std::uint64_t value) { hash_ = splitmix64(hash_ ^ value); }
  void fold(std::int64_t layer, const LayerLoad& load, const PlanPair& plans);

  PolicyContext context_;
  OnlineBuckets buckets_;
  std::vector<std::unique_ptr<LayerState>> layers_;
  OnlineStatistics statistics_;
  double reserved_us_ = 0;  // for what is tried now, of all layers
  std::uint64_t hash_ = 0;
};

PlanPair OnlinePolicy::Impl::choose(std::int64_t layer, const LayerLoad& load) {
  LayerState& state = layer_at(layer);
  reserved_us_ -= std::exchange(state.reserved_us, 0);
  state.tried.reset();
  if (!keeps_bucket(state, load)) enter(state, load);
  PlanPair plans = state.bucket->plans;
  if (!context_.allows(load, plans)) plans = plans_that_run(state, load);
  if (plans != state.exploited) note_exploited(state, plans);
  LoadBucket& bucket = *state.bucket;
  if (bucket.trying && is_affordable(bucket.trying->expected_us)) {
    const PlanPair other = bucket.region->plans_of(bucket.trying->pair);
    if (context_.allows(load, other)) {
      state.tried = plans = other;
      state.reserved_us = kReserve * bucket.trying->expected_us;
      reserved_us_ += state.reserved_us;
    }
    bucket.trying.reset();
  }
  fold(layer, load, plans);
  return plans;
}

LayerState& OnlinePolicy::Impl::layer_at(std::int64_t layer) {
  require(layer >= 0, "layer {}: layers are counted from 0", layer);
  const auto index = static_cast<std::size_t>(layer);
  while (layers_.size() <= index) layers_.push_back(std::make_unique<LayerState>());
  return *layers_[index];
}

bool OnlinePolicy::Impl::keeps_bucket(const LayerState& state, const LayerLoad& load) const {
  return state.bucket != nullptr && state.keep.contains(load.workload.capacity) &&
         load.max_over_mean >= state.least_imbalance && load.max_over_mean < state.largest_imbalance &&
         buckets_.shape(state.shape).matches(load.workload);
}

void OnlinePolicy::Impl::enter(LayerState& state, const LayerLoad& load) {
  state.shape = buckets_.shape_of(load.workload);
  LoadBucket& bucket = buckets_.at(state.shape, load);
  if (state.bucket == &bucket) return;
  if (state.bucket != nullptr) ++statistics_.bucket_changes;
  state.bucket = &bucket;
  state.left.clear();
  // It is kept until the load has left it by a quarter of its width.
  const std::int64_t margin = (bucket.span.high - bucket.span.low + 1) / 4;
  state.keep = {bucket.span.low - margin, bucket.span.high + margin};
  constexpr double kStepsPerDoubling = 2;
  constexpr double kMargin = 0.25;
  const double step = imbalance_bucket(load.max_over_mean);
  state.least_imbalance = std::exp2((step - kMargin) / kStepsPerDoubling);
  state.largest_imbalance = std::exp2((step + 1 + kMargin) / kStepsPerDoubling);
  if (bucket.visits > 0) buckets_.decide(bucket);  // by what others taught since
}

// The plans of the kept bucket cannot run at this load: those of its own bucket, then the fastest that can,
// then the default plan.
PlanPair OnlinePolicy::Impl::plans_that_run(LayerState& state, const LayerLoad& load) {
  enter(state, load);
  if (context_.allows(load, state.bucket->plans)) return state.bucket->plans;
  return buckets_.fastest_at(*state.bucket, load).value_or(PlanPair{kDefaultPlan, kDefaultPlan});
}

void OnlinePolicy::Impl::note_exploited(LayerState& state, const PlanPair& plans) {
  if (state.has_run) {
    ++statistics_.switches;
    if (state.left.contains(plans)) ++statistics_.flaps;
    state.left.add(state.exploited);
  }
  state.has_run = true;
  state.exploited = plans;
}

bool OnlinePolicy::Impl::is_affordable(double expected_us) const {
  const double reserve_us = reserved_us_ + kReserve * expected_us;
  const double explored_us = static_cast<double>(statistics_.explored_ns) * kUsPerNs + reserve_us;
  const double total_us = static_cast<double>(statistics_.total_ns) * kUsPerNs + reserve_us;
  return explored_us <= context_.online.exploration_share * total_us;
}

void OnlinePolicy::Impl::observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
                                 const PassDurations& durations) {
  LayerState& state = layer_at(layer);
  LoadBucket& bucket =
      keeps_bucket(state, load) ? *state.bucket : buckets_.at(buckets_.shape_of(load.workload), load);
  account(state, plans, durations);
  ++bucket.visits;
  bucket.region->count_visit();
  fold(layer, load, plans);
  fold(static_cast<std::uint64_t>(durations.forward_ns));
  fold(static_cast<std::uint64_t>(durations.backward_ns));
  learn(bucket, load, plans, durations);
  buckets_.follow(bucket);
  buckets_.decide(bucket);
  if (is_affordable(0)) buckets_.seek_trying(bucket);
}

void OnlinePolicy::Impl::account(const LayerState& state, const PlanPair& plans,
                                 const PassDurations& durations) {
  const std::int64_t sum_ns = durations.forward_ns + durations.backward_ns;
  ++statistics_.iterations;
  statistics_.total_ns += sum_ns;
  if (state.tried != plans) return;
  ++statistics_.explored_iterations;
  statistics_.explored_ns += sum_ns;
}

void OnlinePolicy::Impl::learn(LoadBucket& bucket, const LayerLoad& load, const PlanPair& plans,
                               const PassDurations& durations) {
  bool changed = false;
  for (const auto& [pass, ns] :
       {std::pair{Pass::kForward, durations.forward_ns}, std::pair{Pass::kBackward, durations.backward_ns}}) {
    changed |= buckets_.learn(bucket, load, pass, plans.of(pass), static_cast<double>(ns) * kUsPerNs);
    // Ranks that were told the same, but conclude otherwise, as on unlike processors, differ here.
    fold(std::bit_cast<std::uint64_t>(buckets_.learner().last_surprise()));
  }
  if (!changed) return;
  ++statistics_.reopenings;
  for (const auto& state : layers_) state->left.clear();
}

void OnlinePolicy::Impl::fold(std::int64_t layer, const LayerLoad& load, const PlanPair& plans) {
  fold(static_cast<std::uint64_t>(layer));
  fold(static_cast<std::uint64_t>(load.workload.capacity));
  fold(static_cast<std::uint64_t>(load.workload.num_tokens));
  fold(std::bit_cast<std::uint64_t>(load.max_over_mean));
  fold(stable_hash(plans.forward));
  fold(stable_hash(plans.backward));
}

OnlinePolicy::OnlinePolicy(PolicyContext context) {
  require(context.costs != nullptr, "the online policy needs a cost model");
  check(context.online);
  impl_ = std::make_unique<Impl>(std::move(context));
}
OnlinePolicy::~OnlinePolicy() = default;

PlanPair OnlinePolicy::choose(std::int64_t layer, const LayerLoad& load) {
  return impl_->choose(layer, load);
}
void OnlinePolicy::observe(std::int64_t layer, const LayerLoad& load, const PlanPair& plans,
                           const PassDurations& durations) {
  impl_->observe(layer, load, plans, durations);
}
std::uint64_t OnlinePolicy::state_hash() const { return impl_->state_hash(); }
OnlineStatistics OnlinePolicy::statistics() const { return impl_->statistics(); }
std::optional<BucketView> OnlinePolicy::explain(const LayerLoad& load) const { return impl_->explain(load); }

}  // namespace flex
