#include "runtime/gshard_layer.h"

#include "base/require.h"
#include "kernels/check.h"
#include "kernels/moe/expert_ffn.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/gshard_einsum.h"
#include "kernels/moe/route.h"

namespace flex {

GshardLayer::GshardLayer(const MoeConfig& config, Device device, GemmAlgorithms* gemm)
    : config_(config),
      device_(device),
      gemm_(gemm),
      parameters_(config, 1, 0, device),
      arena_(device),
      finished_(device) {
  require(config.gate == GateKind::kLinear && config.is_postscore,
          "GshardLayer: the baseline has the linear gate and weights what the experts return");
}

GshardLayer::~GshardLayer() { wait_for_queued(); }

void GshardLayer::wait_for_queued() noexcept {
  try {
    finished_.wait_blocking();
  } catch (...) {  // NOLINT(bugprone-empty-catch)
    // The stream keeps its failure for its owner; here only the memory matters, which nothing uses any more.
  }
}

void GshardLayer::forward(ConstTensorView x, TensorView y, std::int64_t top_k, double capacity_factor,
                          Stream& stream) {
  const ArgumentCheck check("GshardLayer::forward", device_);
  const Shape shape = {x.size(0), config_.model_dim};
  check.tensor("x", x, config_.dtype, shape);
  check.tensor("y", y, config_.dtype, shape);
  require(top_k >= 1 && top_k <= config_.num_experts,
          "GshardLayer::forward: top_k is {}; with {} experts it is from 1 to {}", top_k, config_.num_experts,
          config_.num_experts);
  require(capacity_factor > 0, "GshardLayer::forward: capacity_factor is {}, expected above 0",
          capacity_factor);
  kept_ = false;
  if (arena_.merges_on_reset()) wait_for_queued();
  stream.wait(finished_);  // the last pass may have run on another stream
  arena_.reset();
  x_ = x;
  capacity_ = expert_capacity(top_k, capacity_factor, x.size(0), config_.num_experts, 0);
  // All memory first: nothing is queued if there is too little.
  take_route_buffers(top_k);
  take_forward_buffers();
  route_tokens(stream);
  gshard_mask({.indices = route_.indices,
               .locations = route_.locations,
               .capacity = capacity_,
               .mask = dispatch_mask_},
              stream);
  gshard_mask({.indices = route_.indices,
               .locations = route_.locations,
               .gates = route_.gates,
               .capacity = capacity_,
               .mask = combine_weights_},
              stream);
  gshard_encode({.x = x, .mask = dispatch_mask_, .buffer = encoded_, .gemm = gemm_}, stream);
  run_experts(stream);
  gshard_decode({.buffer = expert_out_, .mask = combine_weights_, .y = y, .gemm = gemm_}, stream);
  stream.record(finished_);
  kept_ = true;
}

void GshardLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  require(kept_, "GshardLayer::backward: no forward pass came before");
  const ArgumentCheck check("GshardLayer::backward", device_);
  check.tensor("dy", dy, config_.dtype, x_.shape);
  check.tensor("dx", dx, config_.dtype, x_.shape);
  kept_ = false;
  stream.wait(finished_);
  take_backward_buffers();
  gshard_decode_backward_mask({.dy = dy, .buffer = expert_out_, .dmask = dcombine_weights_, .gemm = gemm_},
                              stream);
  gshard_mask_backward({.dmask = dcombine_weights_,
                        .indices = route_.indices,
                        .locations = route_.locations,
                        .dgates = dgates_},
                       stream);
  gshard_encode({.x = dy, .mask = combine_weights_, .buffer = dslots_, .gemm = gemm_}, stream);
  run_experts_backward(stream);
  gshard_decode({.buffer = dslots_, .mask = dispatch_mask_, .y = dx, .gemm = gemm_}, stream);
  run_gate_backward(loss_gradient, dx, stream);
  stream.record(finished_);
}

void GshardLayer::take_route_buffers(std::int64_t top_k) {
  const std::int64_t t = x_.size(0);
  const std::int64_t e = config_.num_experts;
  const DType gate = gate_dtype(config_.dtype);
  route_ = {.logits = arena_.take(gate, {t, e}),
            .scores = arena_.take(gate, {t, e}),
            .indices = arena_.take(DType::kI32, {t, top_k}),
            .gates = arena_.take(gate, {t, top_k}),
            .locations = arena_.take(DType::kI32, {t, top_k}),
            .counts = arena_.take(DType::kI32, {e}),
            .needed = arena_.take(DType::kI32, {1}),
            .workspace = arena_.take(DType::kU8, {route_workspace_bytes(t, e, top_k, gate, device_)})};
  if (!config_.has_loss()) return;
  route_.loss_sums = arena_.take(DType::kF64, {gate_loss_num_sums(e)});
  route_.loss = arena_.take(gate, {1});
  route_.loss_workspace = arena_.take(DType::kU8, {gate_loss_workspace_bytes(t, e, device_)});
}

void GshardLayer::take_forward_buffers() {
  const DType dtype = config_.dtype;
  const std::int64_t e = config_.num_experts;
  const Shape mask = {x_.size(0), e, capacity_};
  const Shape slots = {e * capacity_, config_.model_dim};
  const Shape hidden = {e, capacity_, config_.hidden_dim};
  dispatch_mask_ = arena_.take(dtype, mask);
  combine_weights_ = arena_.take(dtype, mask);
  encoded_ = arena_.take(dtype, slots);
  expert_out_ = arena_.take(dtype, slots);
  hidden_ = arena_.take(dtype, hidden);
  up_ = config_.ffn == FfnKind::kGated ? arena_.take(dtype, hidden) : TensorView{};
  activated_ = keeps_activated(config_.ffn, config_.activation) ? hidden_ : arena_.take(dtype, hidden);
}

void GshardLayer::take_backward_buffers() {
  const DType gate = gate_dtype(config_.dtype);
  const std::int64_t t = x_.size(0);
  const std::int64_t e = config_.num_experts;
  dcombine_weights_ = arena_.take(config_.dtype, combine_weights_.shape);
  dslots_ = arena_.take(config_.dtype, expert_out_.shape);
  // Activations apart from the pre-activations are not needed once fc2's gradient is there.
  dhidden_ = keeps_activated(config_.ffn, config_.activation) ? arena_.take(config_.dtype, hidden_.shape)
                                                              : activated_;
  dgates_ = arena_.take(gate, route_.gates.shape);
  dlogits_ = arena_.take(gate, route_.logits.shape);
  gate_workspace_ =
      arena_.take(DType::kU8, {linear_gate_backward_workspace_bytes(t, config_.model_dim, e, device_)});
}

void GshardLayer::route_tokens(Stream& stream) {
  linear_gate({.x = x_, .weight = parameters_.at("gate.wg.weight").value, .logits = route_.logits}, stream);
  route({.logits = route_.logits,
         .normalize_gate = config_.normalize_gate,
         .batch_prioritized = config_.batch_prioritized_routing,
         .scores = route_.scores,
         .indices = route_.indices,
         .gates = route_.gates,
         .locations = route_.locations,
         .counts = route_.counts,
         .needed_capacity = route_.needed,
         .workspace = route_.workspace},
        stream);
  if (!config_.has_loss()) return;
  gate_loss_sums({.settings = config_.loss_settings(),
                  .scores = route_.scores,
                  .clean = route_.logits,
                  .noisy = route_.logits,
                  .indices = route_.indices,
                  .sums = route_.loss_sums,
                  .workspace = route_.loss_workspace},
                 stream);
  gate_loss_value({.settings = config_.loss_settings(), .sums = route_.loss_sums, .value = route_.loss},
                  stream);
}

void GshardLayer::run_experts(Stream& stream) {
  const Shape rows = {config_.num_experts, capacity_, config_.model_dim};
  expert_ffn({.kind = config_.ffn,
              .activation = config_.activation,
              .weights = as_const(expert_values(parameters_)),
              .x = encoded_.reshaped(rows),
              .hidden = hidden_,
              .up = up_,
              .activated = activated_,
              .y = expert_out_.reshaped(rows),
              .gemm = gemm_},
             stream);
}

void GshardLayer::run_experts_backward(Stream& stream) {
  const Shape rows = {config_.num_experts, capacity_, config_.model_dim};
  const TensorView dup = up_;  // in the memory of what it is the gradient of, as dx in that of dy
  const ExpertFfnBackwardWeightsArgs weights{.kind = config_.ffn,
                                             .activation = config_.activation,
                                             .x = encoded_.reshaped(rows),
                                             .dhidden = dhidden_,
                                             .dup = dup,
                                             .hidden = hidden_,
                                             .up = up_,
                                             .dy = dslots_.reshaped(rows),
                                             .activated = activated_,
                                             .gradients = expert_gradients(parameters_),
                                             .gemm = gemm_};
  expert_ffn_backward_fc2(weights, stream);
  expert_ffn_backward_data({.kind = config_.ffn,
                            .activation = config_.activation,
                            .weights = as_const(expert_values(parameters_)),
                            .dy = dslots_.reshaped(rows),
                            .hidden = hidden_,
                            .up = up_,
                            .dhidden = dhidden_,
                            .dup = dup,
                            .dx = dslots_.reshaped(rows),
                            .gemm = gemm_},
                           stream);
  expert_ffn_backward_fc1(weights, stream);
}

void GshardLayer::run_gate_backward(double loss_gradient, TensorView dx, Stream& stream) {
  route_backward({.scores = route_.scores,
                  .indices = route_.indices,
                  .dgates = dgates_,
                  .normalize_gate = config_.normalize_gate,
                  .dlogits = dlogits_},
                 stream);
  if (config_.has_loss() && loss_gradient != 0) {
    gate_loss_backward({.settings = config_.loss_settings(),
                        .scores = route_.scores,
                        .clean = route_.logits,
                        .noisy = route_.logits,
                        .indices = route_.indices,
                        .sums = route_.loss_sums,
                        .dvalue = loss_gradient,
                        .dlogits = dlogits_},
                       stream);
  }
  Parameter& weight = parameters_.at("gate.wg.weight");
  linear_gate_backward({.x = x_,
                        .weight = weight.value,
                        .dlogits = dlogits_,
                        .dweight = weight.gradient,
                        .dx = dx,
                        .accumulate_dx = true,
                        .workspace = gate_workspace_},
                       stream);
}

}  // namespace flex
