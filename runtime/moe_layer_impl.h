#pragma once

#include <array>
#include <exception>
#include <span>
#include <vector>

#include "costmodel/build_schedule.h"
#include "kernels/arena.h"
#include "kernels/moe/route.h"
#include "kernels/moe/slot_layout.h"
#include "runtime/moe_layer.h"
#include "runtime/pass_graphs.h"

/// Private to the layer: its state, and the operations that the executor asks for.
namespace flex {

/// Tensors of the routing, taken before the capacity is known.
struct RouteBuffers {
  TensorView clean, noisy, scores, indices, gates, locations, counts, needed, workspace;
  TensorView projected, normalized_sim;        // cosine gate
  TensorView loss_sums, loss, loss_workspace;  // auxiliary loss
};

/// Staging of an exchange; sized for one pass.
struct ExchangeBuffers {
  SlotLayout layout;
  TensorView received;      // (W * L * part_slots, M): dispatched rows, exchange order, chunk by chunk
  TensorView outgoing;      // the same of the way back
  TensorView returned;      // (E * parts * copies * part_slots, M): combined rows before copies are summed
  TensorView node_staging;  // 2DH: before the phases
  TensorView rail_staging;  // 2DH: between the phases
};

/// Expert weights as a pass computes with them: the own shard, or gathered.
using WeightViews = ExpertParameters<TensorView>;

class MoeLayer::Impl final : public OperationRunner {
 public:
  Impl(const MoeConfig& config, RankContext& context);
  ~Impl() override;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ForwardResult forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream);
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream);
  void run(const Operation& operation, Stream& stream) override;

  [[nodiscard]] RouteArgs route_args() const;
  [[nodiscard]] RoutingViews routing() const;
  [[nodiscard]] std::span<const std::int32_t> host_counts() const;
  [[nodiscard]] std::span<const std::int64_t> source_counts() const;
  [[nodiscard]] std::int64_t num_dropped_blocking() const;

  MoeConfig config_;
  RankContext& context_;
  MoeParameters parameters_;
  LayerProbe probe_;
  Schedule route_schedule_, forward_schedule_, backward_schedule_;
  Arena arena_;
  PassGraphs graphs_;

 private:
  // moe_layer.cpp: calls and agreement
  void check_forward(ConstTensorView x, TensorView y, const ForwardCall& call) const;
  void agree_on_tokens();
  void agree_on_capacity(Stream& stream);
  void compare_calls(std::int64_t number, std::span<const std::int32_t> counts);
  [[nodiscard]] std::int64_t word_of(int rank, std::size_t word) const;
  void fix_plans();
  [[nodiscard]] double max_over_mean() const;
  void warn_of_disagreement() const;
  void run_schedule(Schedule& schedule, Stream& stream);
  void run_schedules(std::span<Schedule* const> schedules, Stream& stream);
  [[nodiscard]] bool is_static(const Stream& stream) const;
  [[nodiscard]] PassKey pass_key() const;
  void finish(Stream& stream);
  void leave_failed(Stream& stream);
  void abort_if_failed(Stream& stream);
  void wait_for_queued() noexcept;
  // moe_layer_buffers.cpp
  void take_route_buffers();
  void take_forward_buffers();
  void take_backward_buffers();
  void take_hidden_gradients();
  [[nodiscard]] TensorView take(DType dtype, Shape shape);
  void poison_taken(Stream& stream);
  [[nodiscard]] SlotLayout pipeline_layout(const Plan& plan) const;
  [[nodiscard]] ExchangeBuffers take_exchange(const Plan& plan);
  [[nodiscard]] WeightViews take_weights(bool gradients);

  // moe_layer_operations.cpp: what operations do
  void run_route(const Operation& operation, Stream& stream);
  void run_forward(const Operation& operation, Stream& stream);
  void run_backward(const Operation& operation, Stream& stream);
  void run_exchange(const Operation& operation, Stream& stream);
  void gate(Stream& stream);
  void gate_backward(Stream& stream);
  void gather_weights(Stream& stream);
  void scatter_gradients(Stream& stream);
  void expert_ffn_chunk(const Operation& operation, Stream& stream);
  void expert_ffn_backward_chunk(const Operation& operation, Stream& stream);
  void expert_ffn_backward_weights(OperationKind layer, Stream& stream);
  [[nodiscard]] std::int64_t fc2_bias_begin() const;
  [[nodiscard]] std::span<const std::int64_t> counted_rows(std::int64_t begin, std::int64_t rows,
                                                           std::size_t place);
  [[nodiscard]] const Plan& plan() const {
    return pass_ == Pass::kForward ? result_.plans.forward : result_.plans.backward;
  }

  [[nodiscard]] std::int64_t rows_of(const Operation& operation) const {
    return shape_.sources * operation.size.slots;
  }
  [[nodiscard]] std::int64_t row_begin(const Operation& operation) const {
    return shape_.sources * operation.size.slot_begin;
  }

  int exceptions_at_start_ = std::uncaught_exceptions();
  Tensor host_needed_;  // (1) i32, staging
  Tensor host_counts_;  // (E) i32, staging
  Event finished_;
  Event communicated_;
  bool in_expert_part_ = false;
  bool queued_ = false;  // both events have been recorded

  // The pass under way, and what forward keeps for backward.
  ConstTensorView x_, dy_;
  TensorView y_, dx_;
  ForwardCall call_;
  Workload workload_;  // of the forward pass, agreed
  ForwardResult result_;
  bool kept_ = false;  // a training forward pass is waiting for its backward()
  Pass pass_ = Pass::kForward;
  double loss_gradient_ = 0;
  std::int64_t first_token_ = 0;
  std::int64_t needed_capacity_ = 0;
  std::vector<std::int64_t> mine_, words_;   // what this rank and all ranks brought to the last comparison
  std::vector<std::int64_t> source_counts_;  // (W, E) choices by source rank and expert; dropless only
  std::vector<std::int64_t>
      rows_per_expert_;  // (2 passes, chunks + 1, experts) for counted experts, see counted_rows()
  PlanShape shape_;
  RouteBuffers route_;
  ExchangeBuffers exchange_;  // of the pass under way
  SlotLayout forward_layout_;
  TensorView encoded_;    // (E * C, M) in exchange_.layout
  TensorView expert_in_;  // (experts, rows, M)
  TensorView hidden_, up_, activated_;
  TensorView expert_out_;  // (experts, rows, M)
  TensorView combined_;    // (E * C, M) in the forward layout: what decode reads
  WeightViews weights_;
  std::vector<TensorView> taken_;  // since the last poison_taken(), only while the probe asks for it
  std::int64_t weights_mark_ = 0;  // arena position below the gathered weights
  // Backward
  TensorView dlogits_, dgates_, dprojected_, gate_workspace_;
  TensorView dcombined_;  // (E * C, M) in the backward layout
  TensorView dexpert_out_, dhidden_, dup_, dexpert_in_, dencoded_;
  TensorView activated_again_;  // what multiplied fc2_w, computed again
  TensorView tile_;             // see ExpertFfnBackwardDataArgs::tile
  WeightViews weight_gradients_;
};

}  // namespace flex
