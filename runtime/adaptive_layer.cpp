#include "runtime/adaptive_layer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "costmodel/plan_space.h"
#include "runtime/pinned_plans.h"

namespace flex {
namespace {

/// What each rank brings to the exchange before a pass.
enum Word : std::size_t { kState, kForwardNs, kBackwardNs, kNumWords };

std::int64_t duration_ns(const StreamTimer& timer) { return std::llround(timer.elapsed_us_blocking() * 1e3); }

}  // namespace

AdaptiveLayer::AdaptiveLayer(MoeLayer& layer, PlanPolicy& policy, std::int64_t index, RankContext& context)
    : layer_(layer),
      policy_(policy),
      index_(index),
      context_(context),
      pinned_(pinned_plans_blocking(context)),
      chooser_([this](const LayerLoad& load) { return choose(load); }),
      forward_timer_(context.device()),
      backward_timer_(context.device()),
      words_(kNumWords * static_cast<std::size_t>(context.size())) {}

template <class Call>
auto AdaptiveLayer::guarded(const char* what, Call&& call) {
  try {
    return std::forward<Call>(call)();
  } catch (const std::exception& error) {
    context_.abort(
        fmt::format("rank {} failed: {} of layer {}: {}", context_.rank(), what, index_, error.what()));
    throw;
  }
}

ForwardResult AdaptiveLayer::forward(ConstTensorView x, TensorView y, const ForwardCall& call,
                                     Stream& stream) {
  if (!pinned_ && !disagreed_) feed_back_blocking();
  const bool adapts = !pinned_ && !disagreed_;
  ForwardCall adapted = call;
  adapted.plans = {};
  adapted.choose = disagreed_ ? nullptr : &chooser_;
  // What the policy made of the durations is compared, too, wherever the layer compares calls.
  adapted.chooser_state = adapts ? guarded("the policy", [&] { return policy_.state_hash(); }) : 0;
  if (adapts) forward_timer_.start(stream);
  ForwardResult result = layer_.forward(x, y, adapted, stream);
  if (adapts) forward_timer_.stop(stream);
  if (adapts && result.plans_disagreed) fall_back();
  if (adapts && !disagreed_) last_ = LastPass{.load = load_, .plans = result.plans};
  result.plans_disagreed = disagreed_;
  return result;
}

void AdaptiveLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  if (last_) backward_timer_.start(stream);
  layer_.backward(dy, dx, loss_gradient, stream);
  if (!last_) return;
  backward_timer_.stop(stream);
  last_->ran_backward = true;
}

PassDurations AdaptiveLayer::own_durations_blocking() const {
  if (!last_) return {};
  return {.forward_ns = duration_ns(forward_timer_),
          .backward_ns = last_->ran_backward ? duration_ns(backward_timer_) : 0};
}

void AdaptiveLayer::feed_back_blocking() {
  const PassDurations own = guarded("the last pass", [&] { return own_durations_blocking(); });
  const std::array<std::int64_t, kNumWords> mine = {
      std::bit_cast<std::int64_t>(guarded("the policy", [&] { return policy_.state_hash(); })),
      own.forward_ns, own.backward_ns};
  context_.control().gather_host_blocking(mine, words_);
  PassDurations slowest;
  for (std::size_t i = 0; i < words_.size(); i += kNumWords) {
    if (words_[i + kState] != words_[kState]) return fall_back();
    slowest.forward_ns = std::max(slowest.forward_ns, words_[i + kForwardNs]);
    slowest.backward_ns = std::max(slowest.backward_ns, words_[i + kBackwardNs]);
  }
  if (!last_) return;
  guarded("the policy", [&] { policy_.observe(index_, last_->load, last_->plans, slowest); });
  last_.reset();
}

void AdaptiveLayer::fall_back() {
  disagreed_ = true;
  last_.reset();
  if (context_.rank() != 0) return;
  log_warning(
      "layer {}: the policies of the ranks are in different states; from now on all run its default plan "
      "'{}'",
      index_, to_string(kDefaultPlan));
}

PlanPair AdaptiveLayer::choose(const LayerLoad& load) {
  load_ = load;
  if (!pinned_) return guarded("the policy", [&] { return policy_.choose(index_, load); });
  for (const Plan& plan : {pinned_->forward, pinned_->backward}) {
    if (is_legal(plan, load.workload, context_.cluster())) continue;
    fail("FLEX_PLAN: plan '{}' cannot run with capacity {}: {}", to_string(plan), load.workload.capacity,
         *why_illegal(plan, load.workload, context_.cluster()));
  }
  return *pinned_;
}

}  // namespace flex
