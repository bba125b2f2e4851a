#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "costmodel/layer_load.h"
#include "costmodel/plan_pair.h"
#include "costmodel/schedule.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"
#include "runtime/moe_config.h"
#include "runtime/moe_parameters.h"
#include "runtime/pass_graphs.h"
#include "runtime/rank_context.h"

namespace flex {

/// Picks plans from the agreed load. Must be a pure function of what is equal on all ranks.
using PlanChooser = std::function<PlanPair(const LayerLoad&)>;

/// What a forward pass is called with. All of it may change in every call; all ranks pass the same.
struct ForwardCall {
  std::int64_t top_k = 2;               ///< k, from 1 to E
  double capacity_factor = 1.0;         ///< f: > 0 fixed capacity, 0 dropless, < 0 dropless up to a limit
  PlanPair plans;                       ///< used when `choose` is null
  const PlanChooser* choose = nullptr;  ///< asked once the capacity is known
  /// Hash of what `choose` decides from besides the load: compared wherever ranks compare their calls.
  std::uint64_t chooser_state = 0;
  bool training = true;         ///< keep what backward() needs
  bool add_noise = false;       ///< draw the training noise (config.gate_noise)
  std::uint64_t iteration = 0;  ///< of the noise
  /// A promise that every rank passes as many tokens and the same call. With f > 0 nothing is exchanged on
  /// the host then, and nothing is compared either: ranks that break the promise end in a CommError.
  bool equal_tokens = false;
  /// With f > 0: bring the counts of the routing to the host, as a dropless pass does. Ranks may differ in
  /// it.
  bool keep_counts = false;
};

/// What the host knows about a pass once it is queued.
struct ForwardResult {
  PlanPair plans;             ///< that run: the called, the chosen, or the default after a disagreement
  std::int64_t capacity = 0;  ///< C, slots per expert and source rank
  std::int64_t padded_capacity = 0;  ///< C rounded up to what buffers hold
  std::int64_t max_tokens = 0;       ///< T, largest over the ranks
  double max_over_mean = 1;          ///< see LayerLoad
  bool plans_disagreed = false;  ///< ranks came with different plans or chooser states: all run the default
};

/// Results of the routing of the last forward pass, on the layer's device; valid until the next one. T
/// tokens, k choices, E experts.
struct RoutingViews {
  ConstTensorView scores;     ///< (T, E)
  ConstTensorView indices;    ///< (T, k) i32
  ConstTensorView gates;      ///< (T, k)
  ConstTensorView locations;  ///< (T, k) i32; at or past the capacity: dropped
  ConstTensorView counts;     ///< (E) i32 before drops
  ConstTensorView loss;       ///< (1) auxiliary loss, in the gate's type; not present without a loss
};

/// Handles for tests of the layer itself.
struct LayerProbe {
  std::function<void(Schedule&)> filter;  ///< changes a schedule after it was built and before it runs
  bool poison_buffers = false;  ///< fills what a pass takes from the arena with NaN before the pass; CPU only
};

/// One Mixture-of-Experts layer on this rank: forward and backward under any plan, over one layout of
/// parameters and data.
///
/// Calls are collective: every rank of the context calls the same layers in the same order. They queue work
/// on `stream` and on the context's communication stream and return; the stream's owner waits. The host is
/// blocked only where the agreement needs it: token counts, unless equal_tokens; and the counts of the
/// routing when f <= 0. After warm-up nothing is allocated.
///
/// Failures of queued work (a NaN logit, a peer that is gone) are the stream's: its synchronize_blocking()
/// throws them. One forward pass at a time is kept for backward(). @source numerics.md
class MoeLayer {
 public:
  /// Collective (groups are made). @throws InputError if the configuration cannot be on this many ranks.
  MoeLayer(const MoeConfig& config, RankContext& context);
  /// Waits for the layer's queued work.
  ~MoeLayer();
  MoeLayer(const MoeLayer&) = delete;
  MoeLayer& operator=(const MoeLayer&) = delete;

  /// y = layer(x). x, y (T, M), T >= 0 may differ between ranks; x must stay as it is until backward() has
  /// run.
  /// @throws InputError on all ranks for k outside [1, E], shapes that disagree, a plan that cannot run at
  /// this capacity, or ranks
  ///         that were called with different settings. Ranks whose plans, or chooser
  ///         states, differ run the default plan and log a warning.
  ForwardResult forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream);

  /// dx and the gradients of all parameters, for `dy` the gradient of the global loss by y, and
  /// `loss_gradient` that by the auxiliary loss. Overwrites the gradients. Uses the backward plan of the
  /// forward call.
  /// @throws InputError if no forward pass with `training` came before.
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);

  [[nodiscard]] const MoeConfig& config() const;
  [[nodiscard]] MoeParameters& parameters();
  [[nodiscard]] RoutingViews routing() const;
  /// routing().counts in host memory, there once the last forward pass is done; empty with f > 0 unless its
  /// call had keep_counts. Valid until the next forward pass.
  [[nodiscard]] std::span<const std::int32_t> host_counts() const;
  /// (W, E) the counts of all ranks in the last forward pass, which a dropless one agrees on before forward()
  /// returns; empty with f > 0. Valid until the next forward pass.
  [[nodiscard]] std::span<const std::int64_t> source_counts() const;
  /// Choices (t, j) of this rank that the last forward pass dropped. Waits for it.
  [[nodiscard]] std::int64_t num_dropped_blocking() const;
  /// Waits for the stream and throws if the last forward pass met a NaN or infinite logit, which CUDA cannot
  /// tell by itself: there its tokens' outputs are NaN. @throws InputError that names token and expert.
  void check_routed_blocking(Stream& stream);
  /// Schedules of the last passes, as run.
  [[nodiscard]] const Schedule& route_schedule() const;
  [[nodiscard]] const Schedule& forward_schedule() const;
  [[nodiscard]] const Schedule& backward_schedule() const;
  /// Bytes of activations and scratch held, beside parameters.
  [[nodiscard]] std::int64_t activation_bytes() const;

  /// When passes are captured as CUDA graphs. Only passes of one rank that need nothing of the host can be:
  /// f > 0, no noise, and neither a probe, an observer nor a search for algorithms under way. A graph repeats
  /// a pass with the same tensors at the same addresses; what they hold may change.
  void set_graph_policy(const GraphPolicy& policy);
  [[nodiscard]] GraphCounts graph_counts() const;

  void set_probe(LayerProbe probe);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flex
