#include "runtime/adaptive_layer.h"

#include <algorithm>
#include <bit>
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

}  // namespace

AdaptiveLayer::AdaptiveLayer(MoeLayer& layer, PlanPolicy& policy, std::int64_t index, RankContext& context,
                             TraceRecorder* recorder)
    : layer_(layer),
      policy_(policy),
      index_(index),
      context_(context),
      pinned_(pinned_plans_blocking(context)),
      chooser_([this](const LayerLoad& load) { return choose(load); }),
      timers_(context.device()),
      recorder_(recorder) {
  if (recorder_ != nullptr) recorder_->attach(index, layer, timers_);
}

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
  feed_back_blocking();
  const bool asks = adapts();
  const bool times = is_timed();
  ForwardCall adapted = call;
  adapted.plans = {};
  adapted.choose = disagreed_ ? nullptr : &chooser_;
  // What the policy made of the durations is compared, too, wherever the layer compares calls.
  adapted.chooser_state = asks ? guarded("the policy", [&] { return policy_.state_hash(); }) : 0;
  adapted.keep_counts = call.keep_counts || recorder_ != nullptr;
  if (times) timers_.start_forward(stream);
  ForwardResult result = layer_.forward(x, y, adapted, stream);
  if (times) timers_.stop_forward(stream);
  if (recorder_ != nullptr) recorder_->end_forward(index_, adapted, result);
  if (asks && result.plans_disagreed) fall_back();
  if (asks && !disagreed_) last_ = LastPass{.load = load_, .plans = result.plans};
  result.plans_disagreed = disagreed_;
  return result;
}

void AdaptiveLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  const bool times = last_ || recorder_ != nullptr;
  if (times) timers_.start_backward(stream);
  layer_.backward(dy, dx, loss_gradient, stream);
  if (times) timers_.stop_backward(stream);
  if (recorder_ != nullptr) recorder_->end_backward(index_);
}

void AdaptiveLayer::feed_back_blocking() {
  std::span<const std::int64_t> recorded_words;
  if (recorder_ != nullptr) {
    recorded_words = guarded("the last pass", [&] { return recorder_->begin_forward_blocking(index_); });
  }
  if (adapts()) return exchange_blocking(recorded_words);
  if (recorder_ != nullptr) recorder_->exchange_blocking();
}

void AdaptiveLayer::exchange_blocking(std::span<const std::int64_t> recorded_words) {
  const PassDurations own =
      guarded("the last pass", [&] { return last_ ? timers_.durations_blocking() : PassDurations{}; });
  mine_ = {std::bit_cast<std::int64_t>(guarded("the policy", [&] { return policy_.state_hash(); })),
           own.forward_ns, own.backward_ns};
  mine_.insert(mine_.end(), recorded_words.begin(), recorded_words.end());
  words_.resize(mine_.size() * static_cast<std::size_t>(context_.size()));
  context_.control().gather_host_blocking(mine_, words_);
  if (!recorded_words.empty()) recorder_->take(words_, mine_.size(), kNumWords);
  PassDurations slowest;
  for (std::size_t i = 0; i < words_.size(); i += mine_.size()) {
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
