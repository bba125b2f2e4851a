#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/moe_layer.h"
#include "runtime/pass_timers.h"
#include "runtime/trace_recorder.h"
#include "tuner/plan_policy.h"

namespace flex {

/// A layer whose plans a policy chooses, iteration by iteration, from what its passes took.
///
/// Before each forward pass the durations of the last one, and of its backward pass, are fed back to the
/// policy: on every rank the largest of all ranks, which one exchange of host numbers brings together with
/// the hash of each rank's policy. So policies that were alike stay alike. If two ranks' hashes differ
/// nevertheless, then in this and in all later iterations every rank runs the default plan and asks no
/// policy; rank 0 warns once.
///
/// Collective like MoeLayer, and as free of allocation after warm-up. Besides what that blocks, forward()
/// waits on the host until the stream has come to the end of this layer's last pass, whose duration is not
/// known before (and for the peers' hosts to come there, too). What was queued behind it goes on meanwhile.
///
/// FLEX_PLAN, read when the layer is made, pins plans: the policy is then neither asked nor told, and nothing
/// is exchanged or waited for beyond what MoeLayer does.
///
/// With a recorder every pass is recorded, with the durations that the policy is told. What the ranks tell
/// each other for it travels in the exchange that there is anyway; without a policy that is asked, in one of
/// its own in each step, and forward() waits for the last pass as it does with one.
class AdaptiveLayer {
 public:
  /// `layer`, of this context, `policy` and `recorder` (null: none) must outlive it. Layers of one model
  /// share a policy and differ in `index`, from 0: what the policy, and the recorder, know the layer by.
  /// Collective.
  /// @throws InputError for a FLEX_PLAN that is wrong, see pinned_plans_blocking().
  AdaptiveLayer(MoeLayer& layer, PlanPolicy& policy, std::int64_t index, RankContext& context,
                TraceRecorder* recorder = nullptr);

  /// As MoeLayer's, with the chosen plans: `plans`, `choose` and `chooser_state` of `call` do not matter. In
  /// the result, plans_disagreed is true for every pass that a disagreement has put on the default plan.
  /// @throws what MoeLayer::forward() throws; InputError on all ranks if a pinned plan cannot run at this
  /// load; what a failed stream holds of its last pass; and what the policy throws, which ends the peers'
  /// calls, too.
  ForwardResult forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream);
  /// As MoeLayer's.
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);

  [[nodiscard]] MoeLayer& layer() { return layer_; }
  /// What FLEX_PLAN pins.
  [[nodiscard]] const std::optional<PlanPair>& pinned() const { return pinned_; }
  /// True once ranks' policies were found to differ.
  [[nodiscard]] bool disagreed() const { return disagreed_; }

 private:
  /// A forward pass that the policy has not been told of.
  struct LastPass {
    LayerLoad load;
    PlanPair plans;
  };

  [[nodiscard]] bool adapts() const { return !pinned_ && !disagreed_; }
  [[nodiscard]] bool is_timed() const { return adapts() || recorder_ != nullptr; }
  void feed_back_blocking();
  void exchange_blocking(std::span<const std::int64_t> recorded_words);
  [[nodiscard]] PlanPair choose(const LayerLoad& load);
  void fall_back();
  /// Calls the policy, or waits for the last pass. If that throws, peers must not wait for this rank.
  template <class Call>
  auto guarded(const char* what, Call&& call);

  MoeLayer& layer_;
  PlanPolicy& policy_;
  std::int64_t index_;
  RankContext& context_;
  std::optional<PlanPair> pinned_;
  PlanChooser chooser_;
  PassTimers timers_;
  TraceRecorder* recorder_;
  LayerLoad load_;  ///< that choose() was asked at
  std::optional<LastPass> last_;
  std::vector<std::int64_t> mine_, words_;  ///< of this rank and of all, in the last exchange
  bool disagreed_ = false;
};

}  // namespace flex
