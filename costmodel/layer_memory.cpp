#include "costmodel/layer_memory.h"

#include <algorithm>

#include "costmodel/build_schedule.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/route.h"
#include "kernels/moe/slot_layout.h"

namespace flex {
namespace {

/// Adds up what a pass takes from the layer's arena. Follows MoeLayer's take_route_buffers(),
/// take_forward_buffers() and take_backward_buffers(); a test of the runtime compares the two.
class Pieces {
 public:
  Pieces(const Workload& w, const Plan& forward, const LayerMemorySettings& settings)
      : w_(w),
        settings_(settings),
        shape_(plan_shape(w, forward)),
        element_(size_bytes(w.dtype)),
        gate_element_(size_bytes(gate_dtype(w.dtype))) {}

  void route();
  void forward(const Plan& plan);
  void backward(const Plan& forward, const Plan& backward);
  [[nodiscard]] std::int64_t peak_bytes() const { return peak_bytes_; }

 private:
  void take(std::int64_t bytes) {
    used_bytes_ += (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  }
  void take_rows(std::int64_t rows, std::int64_t columns) { take(rows * columns * element_); }
  void take_exchange(const Plan& plan);
  void take_weights(bool gradients);
  void take_hidden_gradients(const Plan& forward, const Plan& backward);
  [[nodiscard]] SlotLayout layout(const Plan& plan) const {
    return {.num_experts = w_.num_experts,
            .capacity = w_.padded_capacity(),
            .parts = shape_.parts,
            .chunks = plan.pipeline_degree};
  }
  [[nodiscard]] std::int64_t slots() const { return w_.num_experts * w_.padded_capacity(); }
  [[nodiscard]] bool is_gated() const { return w_.ffn == FfnKind::kGated; }

  const Workload& w_;
  const LayerMemorySettings& settings_;
  PlanShape shape_;
  std::int64_t element_;
  std::int64_t gate_element_;
  std::int64_t used_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
  std::int64_t below_weights_bytes_ = 0;
};

void Pieces::route() {
  constexpr std::int64_t kIndexBytes = 4;
  const std::int64_t t = w_.num_tokens;
  const std::int64_t e = w_.num_experts;
  const std::int64_t k = w_.top_k;
  const Device device = settings_.device;
  const std::int64_t score_bytes = t * e * gate_element_;
  take(score_bytes);                     // clean logits
  if (w_.gate_noise) take(score_bytes);  // noisy logits
  take(score_bytes);                     // scores
  take(t * k * kIndexBytes);             // indices
  take(t * k * gate_element_);           // gates
  take(t * k * kIndexBytes);             // locations
  take(e * kIndexBytes);                 // counts
  take(kIndexBytes);                     // needed capacity
  take(route_workspace_bytes(t, e, k, gate_dtype(w_.dtype), device));
  if (w_.gate == GateKind::kCosine) {
    take(t * w_.projection_dim * gate_element_);
    take(w_.projection_dim * e * gate_element_);
  }
  if (w_.gate_loss) {
    take(gate_loss_num_sums(e) * size_bytes(DType::kF64));
    take(gate_element_);
    take(gate_loss_workspace_bytes(t, e, device));
  }
}

void Pieces::take_exchange(const Plan& plan) {
  if (!shape_.exchanges) return;
  const std::int64_t sent = w_.world * w_.local_experts();  // pieces of part_slots rows
  take_rows(sent * shape_.part_slots, w_.model_dim);        // received
  take_rows(sent * shape_.part_slots, w_.model_dim);        // outgoing
  if (shape_.copies > 1) take_rows(sent * shape_.part_slots, w_.model_dim);
  if (plan.all_to_all == AllToAllAlgorithm::kHierarchical2d) {
    const std::int64_t largest_chunk = layout(plan).chunk_slots(plan.pipeline_degree - 1);
    take_rows(sent * largest_chunk, w_.model_dim);  // before the phases
    take_rows(sent * largest_chunk, w_.model_dim);  // between them
  }
}

void Pieces::take_weights(bool gradients) {
  if (!shape_.gathers) return;
  const std::int64_t e = shape_.experts;
  for (int matrix = 0; matrix < (is_gated() ? 3 : 2); ++matrix) take_rows(e * shape_.columns, w_.model_dim);
  if (is_gated()) return;
  if (w_.fc1_bias) take_rows(e, shape_.columns);
  if (w_.fc2_bias && (!gradients || w_.train_fc2_bias)) {
    take_rows(shape_.weight_group * w_.local_experts(), w_.fc2_bias_slice());
  }
}

void Pieces::forward(const Plan& plan) {
  const std::int64_t rows = shape_.experts * shape_.rows();
  take_exchange(plan);
  take_rows(slots(), w_.model_dim);                 // encoded
  take_rows(rows, shape_.columns);                  // hidden
  if (is_gated()) take_rows(rows, shape_.columns);  // up
  if (settings_.training && !keeps_activated(w_.ffn, settings_.activation)) {
    const std::int64_t chunk = layout(plan).chunk_slots(plan.pipeline_degree - 1);
    take_rows(shape_.experts * shape_.sources * chunk, shape_.columns);  // activated
  }
  if (shape_.exchanges) {
    take_rows(rows, w_.model_dim);  // expert inputs
    take_rows(rows, w_.model_dim);  // expert outputs
  }
  take_rows(slots(), w_.model_dim);  // combined
  below_weights_bytes_ = used_bytes_;
  take_weights(false);
}

void Pieces::take_hidden_gradients(const Plan& forward, const Plan& backward) {
  const std::int64_t rows = shape_.experts * shape_.rows();
  if (!plan_shape(w_, backward).in_place_gradients) {
    take_rows(rows, shape_.columns);
    if (is_gated()) take_rows(rows, shape_.columns);  // of up
  } else if (keeps_activated(w_.ffn, settings_.activation)) {
    take_rows(shape_.experts * hidden_tile_rows(shape_.rows(), shape_.experts * shape_.columns * element_),
              shape_.columns);
  } else if (forward.pipeline_degree > 1) {
    take_rows(rows, shape_.columns);  // in one piece, which the forward pass had in chunks
  }
}

void Pieces::backward(const Plan& forward, const Plan& backward) {
  const std::int64_t t = w_.num_tokens;
  const std::int64_t rows = shape_.experts * shape_.rows();
  const Device device = settings_.device;
  const bool cosine = w_.gate == GateKind::kCosine;
  if (w_.regather_weights && shape_.gathers) {
    used_bytes_ = below_weights_bytes_;
    take_weights(false);
  }
  take_exchange(backward);
  take(t * w_.num_experts * gate_element_);  // gradient of logits
  take(t * w_.top_k * gate_element_);        // of gates
  take(cosine
           ? cosine_gate_backward_workspace_bytes(t, w_.model_dim, w_.projection_dim, w_.num_experts, device)
           : linear_gate_backward_workspace_bytes(t, w_.model_dim, w_.num_experts, device));
  if (cosine) take(t * w_.projection_dim * gate_element_);
  const bool same_layout = !shape_.exchanges || layout(forward) == layout(backward);
  if (!same_layout) take_rows(slots(), w_.model_dim);  // gradient of combined
  take_hidden_gradients(forward, backward);
  if (shape_.exchanges) {
    take_rows(rows, w_.model_dim);  // of expert outputs
    take_rows(rows, w_.model_dim);  // of expert inputs
  }
  if (!plan_shape(w_, backward).in_place_gradients) take_rows(slots(), w_.model_dim);  // of encoded
  take_weights(true);
}

std::int64_t parameter_bytes(const Workload& w) {
  const std::int64_t gate_elements = w.gate == GateKind::kLinear
                                         ? w.num_experts * w.model_dim
                                         : w.projection_dim * (w.model_dim + 1 + w.num_experts) + 1;
  const std::int64_t hidden = w.hidden_dim / w.shards();
  std::int64_t elements = (w.ffn == FfnKind::kGated ? 3 : 2) * hidden * w.model_dim;  // of one expert
  if (w.ffn == FfnKind::kStandard && w.fc1_bias) elements += hidden;
  if (w.ffn == FfnKind::kStandard && w.fc2_bias) elements += w.fc2_bias_slice();
  return gate_elements * size_bytes(gate_dtype(w.dtype)) + w.local_experts() * elements * size_bytes(w.dtype);
}

}  // namespace

std::int64_t hidden_tile_rows(std::int64_t rows, std::int64_t row_bytes) {
  constexpr std::int64_t kTileBytes = std::int64_t{128} << 20;
  constexpr std::int64_t kAlignedRows = 128;
  const std::int64_t most = std::max(kTileBytes / std::max<std::int64_t>(row_bytes, 1), kAlignedRows);
  if (rows <= most) return std::max<std::int64_t>(rows, 1);
  const std::int64_t tiles = (rows + most - 1) / most;
  const std::int64_t even = (rows + tiles - 1) / tiles;
  return (even + kAlignedRows - 1) / kAlignedRows * kAlignedRows;
}

LayerMemory layer_memory(const Workload& workload, const Plan& forward, const Plan& backward,
                         const LayerMemorySettings& settings) {
  Pieces pieces(workload, forward, settings);
  pieces.route();
  pieces.forward(forward);
  if (settings.training) pieces.backward(forward, backward);
  const std::int64_t parameters = parameter_bytes(workload);
  return {.parameter_bytes = parameters,
          .gradient_bytes = settings.training ? parameters : 0,
          .activation_bytes = pieces.peak_bytes()};
}

}  // namespace flex
