#include <algorithm>

#include "base/require.h"
#include "kernels/moe/decode.h"
#include "kernels/moe/encode.h"
#include "kernels/moe/expert_ffn.h"
#include "kernels/moe/gate.h"
#include "kernels/moe/gate_loss.h"
#include "kernels/moe/grouped_ffn.h"
#include "kernels/moe/noise.h"
#include "kernels/moe/route.h"
#include "runtime/moe_layer_impl.h"

/// What each operation of a schedule does. Nothing here decides order, streams or dependencies.
namespace flex {
namespace {

TensorView narrowed_if(const TensorView& view, std::int64_t begin, std::int64_t count) {
  return view.present() ? view.narrowed(begin, count) : view;
}

}  // namespace

void MoeLayer::Impl::run(const Operation& operation, Stream& stream) {
  using enum OperationKind;
  switch (operation.kind) {
    case kAgreeTokens:
    case kGate:
    case kGateNoise:
    case kRoute:
    case kGateLossSums:
    case kReduceGateLoss:
    case kGateLossValue:
    case kAgreeCapacity:
      return run_route(operation, stream);
    case kAllToAll:
    case kNodeCopy:
    case kNodeAllToAll:
    case kRailCopy:
    case kRailAllToAll:
    case kRowsToExperts:
    case kRowsFromExperts:
    case kSumCopies:
      return run_exchange(operation, stream);
    case kGatherWeights:
      return gather_weights(stream);
    default:
      return pass_ == Pass::kForward ? run_forward(operation, stream) : run_backward(operation, stream);
  }
}

void MoeLayer::Impl::run_route(const Operation& operation, Stream& stream) {
  using enum OperationKind;
  const GateLossSettings settings = config_.loss_settings();
  switch (operation.kind) {
    case kAgreeTokens:
      return agree_on_tokens();
    case kAgreeCapacity:
      return agree_on_capacity(stream);
    case kGate:
      return gate(stream);
    case kGateNoise:
      return add_gate_noise({.logits = route_.clean,
                             .noisy = route_.noisy,
                             .stddev = config_.gate_noise / static_cast<double>(config_.num_experts),
                             .seed = config_.seed,
                             .iteration = call_.iteration,
                             .layer = config_.layer,
                             .first_token = first_token_},
                            stream);
    case kRoute:
      route(route_args(), stream);
      // Dropless: the agreement reads them on the host, once they have arrived there.
      if (workload_.dropless) copy(host_needed_, route_.needed, stream);
      if (workload_.dropless || call_.keep_counts) copy(host_counts_, route_.counts, stream);
      return;
    case kGateLossSums:
      return gate_loss_sums({.settings = settings,
                             .scores = route_.scores,
                             .clean = route_.clean,
                             .noisy = route_.noisy,
                             .indices = route_.indices,
                             .sums = route_.loss_sums,
                             .workspace = route_.loss_workspace},
                            stream);
    case kReduceGateLoss:
      return context_.data().all_reduce(route_.loss_sums.data, route_.loss_sums.num_elements(), DType::kF64,
                                        ReduceOp::kSum, Traffic::kGate, stream);
    case kGateLossValue:
      return gate_loss_value({.settings = settings, .sums = route_.loss_sums, .value = route_.loss}, stream);
    default:
      fail("operation {} does not belong to the route part", name(operation.kind));
  }
}

RouteArgs MoeLayer::Impl::route_args() const {
  return {.logits = route_.noisy,
          .normalize_gate = config_.normalize_gate,
          .batch_prioritized = config_.batch_prioritized_routing,
          .scores = route_.scores,
          .indices = route_.indices,
          .gates = route_.gates,
          .locations = route_.locations,
          .counts = route_.counts,
          .needed_capacity = route_.needed,
          .workspace = route_.workspace};
}

void MoeLayer::Impl::gate(Stream& stream) {
  if (config_.gate == GateKind::kLinear) {
    linear_gate({.x = x_, .weight = parameters_.at("gate.wg.weight").value, .logits = route_.clean}, stream);
    return;
  }
  cosine_gate({.x = x_,
               .projector_weight = parameters_.at("gate.cosine_projector.weight").value,
               .projector_bias = parameters_.at("gate.cosine_projector.bias").value,
               .sim_matrix = parameters_.at("gate.sim_matrix").value,
               .temperature = parameters_.at("gate.temperature").value,
               .projected = route_.projected,
               .normalized_sim = route_.normalized_sim,
               .logits = route_.clean},
              stream);
}

void MoeLayer::Impl::gate_backward(Stream& stream) {
  route_backward({.scores = route_.scores,
                  .indices = route_.indices,
                  .dgates = dgates_,
                  .normalize_gate = config_.normalize_gate,
                  .dlogits = dlogits_},
                 stream);
  if (workload_.gate_loss && loss_gradient_ != 0) {
    gate_loss_backward({.settings = config_.loss_settings(),
                        .scores = route_.scores,
                        .clean = route_.clean,
                        .noisy = route_.noisy,
                        .indices = route_.indices,
                        .sums = route_.loss_sums,
                        .dvalue = loss_gradient_,
                        .dlogits = dlogits_},
                       stream);
  }
  // With postscore this comes before encode_backward, which then adds to dx; otherwise after it.
  const bool accumulate = !config_.is_postscore;
  if (config_.gate == GateKind::kLinear) {
    Parameter& weight = parameters_.at("gate.wg.weight");
    linear_gate_backward({.x = x_,
                          .weight = weight.value,
                          .dlogits = dlogits_,
                          .dweight = weight.gradient,
                          .dx = dx_,
                          .accumulate_dx = accumulate,
                          .workspace = gate_workspace_},
                         stream);
    return;
  }
  Parameter& projector = parameters_.at("gate.cosine_projector.weight");
  Parameter& sim = parameters_.at("gate.sim_matrix");
  Parameter& temperature = parameters_.at("gate.temperature");
  cosine_gate_backward({.x = x_,
                        .projector_weight = projector.value,
                        .sim_matrix = sim.value,
                        .temperature = temperature.value,
                        .projected = route_.projected,
                        .normalized_sim = route_.normalized_sim,
                        .dlogits = dlogits_,
                        .dprojected = dprojected_,
                        .dprojector_weight = projector.gradient,
                        .dprojector_bias = parameters_.at("gate.cosine_projector.bias").gradient,
                        .dsim_matrix = sim.gradient,
                        .dtemperature = temperature.gradient,
                        .dx = dx_,
                        .accumulate_dx = accumulate,
                        .workspace = gate_workspace_},
                       stream);
}

void MoeLayer::Impl::run_forward(const Operation& operation, Stream& stream) {
  using enum OperationKind;
  switch (operation.kind) {
    case kEncode:
      return encode({.x = x_,
                     .indices = route_.indices,
                     .locations = route_.locations,
                     .counts = route_.counts,
                     .gates = config_.is_postscore ? ConstTensorView{} : route_.gates,
                     .capacity = result_.capacity,
                     .layout = exchange_.layout,
                     .buffer = encoded_},
                    stream);
    case kExpertFfn:
      return expert_ffn_chunk(operation, stream);
    case kDecode:
      return decode({.buffer = combined_,
                     .indices = route_.indices,
                     .locations = route_.locations,
                     .gates = config_.is_postscore ? ConstTensorView(route_.gates) : ConstTensorView{},
                     .capacity = result_.capacity,
                     .layout = exchange_.layout,
                     .y = y_},
                    stream);
    default:
      fail("operation {} does not belong to a forward pass", name(operation.kind));
  }
}

void MoeLayer::Impl::run_backward(const Operation& operation, Stream& stream) {
  using enum OperationKind;
  const ConstTensorView decode_gates =
      config_.is_postscore ? ConstTensorView(route_.gates) : ConstTensorView{};
  const ConstTensorView encode_gates =
      config_.is_postscore ? ConstTensorView{} : ConstTensorView(route_.gates);
  switch (operation.kind) {
    case kDecodeBackward:
      return decode_backward({.dy = dy_,
                              .buffer = combined_,
                              .indices = route_.indices,
                              .locations = route_.locations,
                              .counts = route_.counts,
                              .gates = decode_gates,
                              .capacity = result_.capacity,
                              .buffer_layout = forward_layout_,
                              .dbuffer_layout = exchange_.layout,
                              .dbuffer = dcombined_,
                              .dgates = config_.is_postscore ? dgates_ : TensorView{}},
                             stream);
    case kExpertFfnBackwardData:
      return expert_ffn_backward_chunk(operation, stream);
    case kExpertFfnBackwardFc1:
    case kExpertFfnBackwardFc2:
      return expert_ffn_backward_weights(operation.kind, stream);
    case kEncodeBackward:
      return encode_backward({.dbuffer = dencoded_,
                              .x = x_,
                              .indices = route_.indices,
                              .locations = route_.locations,
                              .gates = encode_gates,
                              .capacity = result_.capacity,
                              .layout = exchange_.layout,
                              .dx = dx_,
                              .dgates = config_.is_postscore ? TensorView{} : dgates_,
                              .accumulate_dx = config_.is_postscore},
                             stream);
    case kGateBackward:
      return gate_backward(stream);
    case kScatterGradients:
      return scatter_gradients(stream);
    case kReduceGateGradients:
      for (Parameter& parameter : parameters_.all()) {
        if (!parameter.replicated) continue;
        context_.data().all_reduce(parameter.gradient.view().data, parameter.gradient.num_elements(),
                                   parameter.gradient.dtype(), ReduceOp::kSum, Traffic::kGate, stream);
      }
      return;
    default:
      fail("operation {} does not belong to a backward pass", name(operation.kind));
  }
}

void MoeLayer::Impl::expert_ffn_chunk(const Operation& operation, Stream& stream) {
  const std::int64_t begin = row_begin(operation);
  const std::int64_t rows = rows_of(operation);
  const TensorView hidden = hidden_.narrowed(begin, rows);
  const ExpertFfnArgs args{.kind = config_.ffn,
                           .activation = config_.activation,
                           .weights = as_const(weights_),
                           .fc2_bias_begin = fc2_bias_begin(),
                           .x = expert_in_.narrowed(begin, rows),
                           .hidden = hidden,
                           .up = narrowed_if(up_, begin, rows),
                           .activated = activated_.present() ? activated_.narrowed(0, rows) : hidden,
                           .y = expert_out_.narrowed(begin, rows),
                           .gemm = context_.gemm()};
  if (plan().expert_kernel == ExpertKernel::kPadded) return expert_ffn(args, stream);
  grouped_ffn(args, counted_rows(begin, rows, static_cast<std::size_t>(operation.chunk)), stream);
}

void MoeLayer::Impl::expert_ffn_backward_chunk(const Operation& operation, Stream& stream) {
  const std::int64_t begin = row_begin(operation);
  const std::int64_t rows = rows_of(operation);
  const ExpertFfnBackwardDataArgs args{.kind = config_.ffn,
                                       .activation = config_.activation,
                                       .weights = as_const(weights_),
                                       .dy = dexpert_out_.narrowed(begin, rows),
                                       .hidden = hidden_.narrowed(begin, rows),
                                       .up = narrowed_if(up_, begin, rows),
                                       .dhidden = dhidden_.narrowed(begin, rows),
                                       .dup = narrowed_if(dup_, begin, rows),
                                       .dx = dexpert_in_.narrowed(begin, rows),
                                       .tile = tile_,
                                       .gemm = context_.gemm()};
  if (plan().expert_kernel == ExpertKernel::kPadded) return expert_ffn_backward_data(args, stream);
  grouped_ffn_backward_data(args, counted_rows(begin, rows, static_cast<std::size_t>(operation.chunk)),
                            stream);
}

void MoeLayer::Impl::expert_ffn_backward_weights(OperationKind layer, Stream& stream) {
  const ExpertFfnBackwardWeightsArgs args{.kind = config_.ffn,
                                          .activation = config_.activation,
                                          .x = expert_in_,
                                          .dhidden = dhidden_,
                                          .dup = dup_,
                                          .hidden = hidden_,
                                          .up = up_,
                                          .dy = dexpert_out_,
                                          .activated = activated_again_,
                                          .fc2_bias_begin = fc2_bias_begin(),
                                          .gradients = weight_gradients_,
                                          .gemm = context_.gemm()};
  const bool first = layer == OperationKind::kExpertFfnBackwardFc1;
  if (plan().expert_kernel == ExpertKernel::kPadded) {
    return first ? expert_ffn_backward_fc1(args, stream) : expert_ffn_backward_fc2(args, stream);
  }
  const std::size_t after_chunks = static_cast<std::size_t>(plan().pipeline_degree);
  const auto counts = counted_rows(0, shape_.rows(), first ? after_chunks : after_chunks + 1);
  return first ? grouped_ffn_backward_fc1(args, counts, stream)
               : grouped_ffn_backward_fc2(args, counts, stream);
}

std::span<const std::int64_t> MoeLayer::Impl::counted_rows(std::int64_t begin, std::int64_t rows,
                                                           std::size_t place) {
  // In the experts' order rows go by slot, then source: those that any source uses are the first ones. CPU
  // kernels read the counts later, so each use has a place of its own; the agreement waits for the last pass
  // before they are written again.
  const auto experts = static_cast<std::size_t>(shape_.experts);
  constexpr std::size_t kPlaces = 10;  // up to 8 chunks, and all rows for either layer of the experts
  rows_per_expert_.resize(
      std::max(rows_per_expert_.size(), 2 * kPlaces * static_cast<std::size_t>(config_.num_experts)));
  const std::size_t pass = pass_ == Pass::kForward ? 0 : 1;
  const std::span result(
      rows_per_expert_.data() + (pass * kPlaces + place) * static_cast<std::size_t>(config_.num_experts),
      experts);
  const bool local = plan().parallel_degree == 0;
  const std::int64_t rank = context_.rank();
  const std::int64_t shards = workload_.shards();
  const std::int64_t first = local ? 0 : (shards > 1 ? rank / shards : rank * shape_.experts);
  const std::int64_t part_begin = local ? 0 : rank % shards % shape_.parts * shape_.part_slots;
  for (std::int64_t e = 0; e < shape_.experts; ++e) {
    std::int64_t slots = 0;
    for (std::int64_t source = 0; source < context_.size(); ++source) {
      if (local && source != rank) continue;
      const std::int64_t count =
          std::min(source_counts_[static_cast<std::size_t>(source * config_.num_experts + first + e)],
                   result_.capacity);
      slots = std::max(slots, std::clamp<std::int64_t>(count - part_begin, 0, shape_.part_slots));
    }
    result[static_cast<std::size_t>(e)] = std::clamp<std::int64_t>(slots * shape_.sources - begin, 0, rows);
  }
  return result;
}

std::int64_t MoeLayer::Impl::fc2_bias_begin() const {
  if (result_.plans.forward.parallel_degree == 0) return 0;
  const std::int64_t slice = context_.rank() % workload_.shards();
  return slice / shape_.weight_group * shape_.weight_group * workload_.fc2_bias_slice();
}

void MoeLayer::Impl::gather_weights(Stream& stream) {
  const WeightViews from = expert_values(parameters_);
  Communicator& group = context_.weight_group(shape_.weight_group);
  const auto gather = [&](const TensorView& mine, const TensorView& all) {
    if (mine.present()) group.all_gather(mine.data, all.data, mine.bytes(), Traffic::kWeights, stream);
  };
  gather(from.fc1_w, weights_.fc1_w);
  gather(from.up_w, weights_.up_w);
  gather(from.fc2_w, weights_.fc2_w);
  gather(from.fc1_bias, weights_.fc1_bias);
  gather(from.fc2_bias, weights_.fc2_bias);
}

void MoeLayer::Impl::scatter_gradients(Stream& stream) {
  const WeightViews to = expert_gradients(parameters_);
  Communicator& group = context_.weight_group(shape_.weight_group);
  const auto scatter = [&](const TensorView& all, const TensorView& mine) {
    if (!mine.present()) return;
    group.reduce_scatter(all.data, mine.data, mine.num_elements(), mine.dtype, Traffic::kGradients, stream);
  };
  scatter(weight_gradients_.fc1_w, to.fc1_w);
  scatter(weight_gradients_.up_w, to.up_w);
  scatter(weight_gradients_.fc2_w, to.fc2_w);
  scatter(weight_gradients_.fc1_bias, to.fc1_bias);
  scatter(weight_gradients_.fc2_bias, to.fc2_bias);
}

}  // namespace flex
