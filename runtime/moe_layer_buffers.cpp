#include <cstring>

#include "costmodel/layer_memory.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/route.h"
#include "runtime/moe_layer_impl.h"

/// Memory of a pass: everything is taken from the arena before its operations are queued, and lies at the
/// same place in every iteration of the same sizes.
namespace flex {

TensorView MoeLayer::Impl::take(DType dtype, Shape shape) {
  const TensorView view = arena_.take(dtype, shape);
  if (probe_.poison_buffers) taken_.push_back(view);
  return view;
}

void MoeLayer::Impl::poison_taken(Stream& stream) {
  // In stream order, since work of the last pass may still use this memory; all bits set is a NaN in every
  // floating type.
  for (const TensorView& view : taken_) {
    stream.enqueue([view] { std::memset(view.data, 0xFF, static_cast<std::size_t>(view.bytes())); });
  }
  taken_.clear();
}

void MoeLayer::Impl::take_route_buffers() {
  const std::int64_t t = x_.size(0);
  const std::int64_t e = config_.num_experts;
  const std::int64_t k = call_.top_k;
  const DType gate = gate_dtype(config_.dtype);
  route_ = {};
  route_.clean = take(gate, {t, e});
  route_.noisy = workload_.gate_noise ? take(gate, {t, e}) : route_.clean;
  route_.scores = take(gate, {t, e});
  route_.indices = take(DType::kI32, {t, k});
  route_.gates = take(gate, {t, k});
  route_.locations = take(DType::kI32, {t, k});
  route_.counts = take(DType::kI32, {e});
  route_.needed = take(DType::kI32, {1});
  const Device device = context_.device();
  route_.workspace = take(DType::kU8, {route_workspace_bytes(t, e, k, gate, device)});
  if (config_.gate == GateKind::kCosine) {
    route_.projected = take(gate, {t, config_.projection_dim});
    route_.normalized_sim = take(gate, {config_.projection_dim, e});
  }
  if (workload_.gate_loss) {
    route_.loss_sums = take(DType::kF64, {gate_loss_num_sums(e)});
    route_.loss = take(gate, {1});
    route_.loss_workspace = take(DType::kU8, {gate_loss_workspace_bytes(t, e, device)});
  }
}

SlotLayout MoeLayer::Impl::pipeline_layout(const Plan& plan) const {
  return {.num_experts = config_.num_experts,
          .capacity = workload_.padded_capacity(),
          .parts = shape_.parts,
          .chunks = plan.pipeline_degree};
}

ExchangeBuffers MoeLayer::Impl::take_exchange(const Plan& plan) {
  ExchangeBuffers buffers;
  const std::int64_t m = config_.model_dim;
  buffers.layout = pipeline_layout(plan);
  if (!shape_.exchanges) buffers.layout.chunks = 1;  // experts read the slots in place: plain E x C
  if (!shape_.exchanges) return buffers;
  const std::int64_t rows = workload_.world * workload_.local_experts() * shape_.part_slots;  // E * C * r
  buffers.received = take(config_.dtype, {rows, m});
  buffers.outgoing = take(config_.dtype, {rows, m});
  if (shape_.copies > 1) buffers.returned = take(config_.dtype, {rows, m});
  if (plan.all_to_all == AllToAllAlgorithm::kHierarchical2d) {
    // One chunk at a time: the communication stream runs chunks one after the other. The last chunk is the
    // largest.
    const std::int64_t chunk_rows =
        workload_.world * workload_.local_experts() * buffers.layout.chunk_slots(plan.pipeline_degree - 1);
    buffers.node_staging = take(config_.dtype, {chunk_rows, m});
    buffers.rail_staging = take(config_.dtype, {chunk_rows, m});
  }
  return buffers;
}

WeightViews MoeLayer::Impl::take_weights(bool gradients) {
  WeightViews views = gradients ? expert_gradients(parameters_) : expert_values(parameters_);
  if (!shape_.gathers) return views;
  const DType dtype = config_.dtype;
  const std::int64_t e = shape_.experts;
  const std::int64_t f = shape_.columns;
  const std::int64_t m = config_.model_dim;
  // Gathered pieces follow each other by rank, which is the order of experts and of hidden columns.
  const std::int64_t bias_columns =
      shape_.weight_group * workload_.local_experts() * workload_.fc2_bias_slice() / e;
  if (views.fc1_w.present()) views.fc1_w = take(dtype, {e, f, m});
  if (views.up_w.present()) views.up_w = take(dtype, {e, f, m});
  if (views.fc2_w.present()) views.fc2_w = take(dtype, {e, f, m});
  if (views.fc1_bias.present()) views.fc1_bias = take(dtype, {e, f});
  if (views.fc2_bias.present()) views.fc2_bias = take(dtype, {e, bias_columns});
  return views;
}

void MoeLayer::Impl::take_forward_buffers() {
  const Plan& plan = result_.plans.forward;
  shape_ = plan_shape(workload_, plan);
  const DType dtype = config_.dtype;
  const std::int64_t m = config_.model_dim;
  const std::int64_t slots = config_.num_experts * workload_.padded_capacity();
  const std::int64_t rows = shape_.rows();
  exchange_ = take_exchange(plan);
  forward_layout_ = exchange_.layout;
  encoded_ = take(dtype, {slots, m});
  hidden_ = take(dtype, {shape_.experts, rows, shape_.columns});
  up_ = config_.ffn == FfnKind::kGated ? take(dtype, {shape_.experts, rows, shape_.columns}) : TensorView{};
  // Only the pre-activation is kept for the backward pass, so one chunk of activations serves all; the last
  // is the largest.
  const std::int64_t chunk_rows =
      shape_.sources * pipeline_layout(plan).chunk_slots(plan.pipeline_degree - 1);
  const bool apart = call_.training && !keeps_activated(config_.ffn, config_.activation);
  activated_ = apart ? take(dtype, {shape_.experts, chunk_rows, shape_.columns}) : TensorView{};
  if (shape_.exchanges) {
    expert_in_ = take(dtype, {shape_.experts, rows, m});
    expert_out_ = take(dtype, {shape_.experts, rows, m});
    combined_ = take(dtype, {slots, m});
    if (shape_.copies == 1) exchange_.returned = combined_;  // nothing to add up
  } else {
    combined_ = take(dtype, {slots, m});
    expert_in_ = encoded_.reshaped({shape_.experts, rows, m});
    expert_out_ = combined_.reshaped({shape_.experts, rows, m});
  }
  weights_mark_ = arena_.mark();
  weights_ = take_weights(false);
}

void MoeLayer::Impl::take_hidden_gradients() {
  const DType dtype = config_.dtype;
  const bool gated = config_.ffn == FfnKind::kGated;
  const std::int64_t rows = shape_.rows();
  const Shape hidden = {shape_.experts, rows, shape_.columns};
  tile_ = {};
  if (!shape_.in_place_gradients) {
    dhidden_ = take(dtype, hidden);
    dup_ = gated ? take(dtype, hidden) : TensorView{};
    activated_again_ = hidden_;  // the pre-activation is not needed after the gradients of all chunks
    return;
  }
  dup_ = up_;
  if (keeps_activated(config_.ffn, config_.activation)) {
    activated_again_ = {};
    dhidden_ = hidden_;
    tile_ = take(dtype,
                 {shape_.experts, hidden_tile_rows(rows, shape_.experts * shape_.columns * size_bytes(dtype)),
                  shape_.columns});
    return;
  }
  // The forward pass had these rows activated in one piece unless it ran in several chunks.
  activated_again_ = activated_.size(1) == rows ? activated_ : take(dtype, hidden);
  dhidden_ = activated_again_;
}

void MoeLayer::Impl::take_backward_buffers() {
  const Plan& plan = result_.plans.backward;
  shape_ = plan_shape(workload_, plan);
  const DType dtype = config_.dtype;
  const DType gate = gate_dtype(dtype);
  const std::int64_t m = config_.model_dim;
  const std::int64_t slots = config_.num_experts * workload_.padded_capacity();
  const std::int64_t rows = shape_.rows();
  if (workload_.regather_weights && shape_.gathers) {
    arena_.rewind(weights_mark_);  // the forward pass is ordered before what is written there now
    weights_ = take_weights(false);
  }
  exchange_ = take_exchange(plan);
  dlogits_ = take(gate, {x_.size(0), config_.num_experts});
  dgates_ = take(gate, {x_.size(0), call_.top_k});
  const std::int64_t t = x_.size(0);
  const std::int64_t e = config_.num_experts;
  const Device device = context_.device();
  const std::int64_t workspace =
      config_.gate == GateKind::kCosine
          ? cosine_gate_backward_workspace_bytes(t, m, config_.projection_dim, e, device)
          : linear_gate_backward_workspace_bytes(t, m, e, device);
  gate_workspace_ = take(DType::kU8, {workspace});
  if (config_.gate == GateKind::kCosine) dprojected_ = take(gate, {x_.size(0), config_.projection_dim});
  // What decode read is not needed after its gradient: the same memory serves where the layouts are equal.
  dcombined_ = exchange_.layout == forward_layout_ ? combined_ : take(dtype, {slots, m});
  take_hidden_gradients();
  if (shape_.exchanges) {
    dexpert_out_ = take(dtype, {shape_.experts, rows, m});
    dexpert_in_ = take(dtype, {shape_.experts, rows, m});
    dencoded_ = take(dtype, {slots, m});
    if (shape_.copies == 1) exchange_.returned = dencoded_;
  } else {
    dexpert_out_ = dcombined_.reshaped({shape_.experts, rows, m});
    dencoded_ = shape_.in_place_gradients ? dcombined_ : take(dtype, {slots, m});
    dexpert_in_ = dencoded_.reshaped({shape_.experts, rows, m});
  }
  weight_gradients_ = take_weights(true);
}

}  // namespace flex
