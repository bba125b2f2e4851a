#include "runtime/moe_layer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/require.h"
#include "kernels/moe/route.h"
#include "runtime/moe_layer_impl.h"

namespace flex {

MoeLayer::MoeLayer(const MoeConfig& config, RankContext& context)
    : impl_(std::make_unique<Impl>(config, context)) {}
MoeLayer::~MoeLayer() = default;

ForwardResult MoeLayer::forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream) {
  return impl_->forward(x, y, call, stream);
}
void MoeLayer::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  impl_->backward(dy, dx, loss_gradient, stream);
}
const MoeConfig& MoeLayer::config() const { return impl_->config_; }
MoeParameters& MoeLayer::parameters() { return impl_->parameters_; }
RoutingViews MoeLayer::routing() const { return impl_->routing(); }
std::span<const std::int32_t> MoeLayer::host_counts() const { return impl_->host_counts(); }
std::span<const std::int64_t> MoeLayer::source_counts() const { return impl_->source_counts(); }
std::int64_t MoeLayer::num_dropped_blocking() const { return impl_->num_dropped_blocking(); }
const Schedule& MoeLayer::route_schedule() const { return impl_->route_schedule_; }
const Schedule& MoeLayer::forward_schedule() const { return impl_->forward_schedule_; }
const Schedule& MoeLayer::backward_schedule() const { return impl_->backward_schedule_; }
std::int64_t MoeLayer::activation_bytes() const { return impl_->arena_.capacity_bytes(); }
void MoeLayer::check_routed_blocking(Stream& stream) {
  flex::check_routed_blocking(impl_->route_args(), stream);
}
void MoeLayer::set_graph_policy(const GraphPolicy& policy) { impl_->graphs_.set_policy(policy); }
GraphCounts MoeLayer::graph_counts() const { return impl_->graphs_.counts(); }
void MoeLayer::set_probe(LayerProbe probe) { impl_->probe_ = std::move(probe); }

MoeLayer::Impl::Impl(const MoeConfig& config, RankContext& context)
    : config_(config),
      context_(context),
      parameters_(config, context.size(), context.rank(), context.device()),
      arena_(context.device()),
      host_needed_(Tensor::staging(DType::kI32, {1}, context.device())),
      host_counts_(Tensor::staging(DType::kI32, {config.num_experts}, context.device())),
      finished_(context.device()),
      communicated_(context.device()) {
  host_needed_.as<std::int32_t>()[0] = 0;
  context.prepare_weight_groups(workload_of(config, context.size()).shards());
}

MoeLayer::Impl::~Impl() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    context_.abort(fmt::format("rank {} failed", context_.rank()));
  }
  wait_for_queued();
}

void MoeLayer::Impl::wait_for_queued() noexcept {
  if (!queued_) return;
  for (const Event* event : {&finished_, &communicated_}) {
    try {
      event->wait_blocking();
    } catch (...) {  // NOLINT(bugprone-empty-catch)
      // The stream keeps its failure for its owner; here only the memory matters, which nothing uses any
      // more.
    }
  }
}

void MoeLayer::Impl::check_forward(ConstTensorView x, TensorView y, const ForwardCall& call) const {
  require(x.present() && x.shape.rank() == 2 && x.size(1) == config_.model_dim,
          "MoeLayer::forward: x has shape {}, expected (T, {})", to_string(x.shape), config_.model_dim);
  require(y.shape == x.shape, "MoeLayer::forward: y has shape {}, x has {}", to_string(y.shape),
          to_string(x.shape));
  require(x.dtype == config_.dtype && y.dtype == config_.dtype,
          "MoeLayer::forward: x is {} and y is {}, the layer is {}", name(x.dtype), name(y.dtype),
          name(config_.dtype));
  require(x.device == context_.device() && y.device == context_.device(),
          "MoeLayer::forward: x is on {} and y on {}, the layer is on {}", to_string(x.device),
          to_string(y.device), to_string(context_.device()));
  require(x.contiguous() && y.contiguous(), "MoeLayer::forward: x and y must be contiguous");
  require(call.top_k >= 1 && call.top_k <= config_.num_experts,
          "MoeLayer::forward: top_k is {}; with {} experts it is from 1 to {}", call.top_k,
          config_.num_experts, config_.num_experts);
  require(std::isfinite(call.capacity_factor),
          "MoeLayer::forward: capacity_factor is {}; it is a finite number", call.capacity_factor);
}

ForwardResult MoeLayer::Impl::forward(ConstTensorView x, TensorView y, const ForwardCall& call,
                                      Stream& stream) {
  check_forward(x, y, call);
  kept_ = false;
  if (arena_.merges_on_reset()) wait_for_queued();
  if (queued_) stream.wait(finished_);  // the last pass may have run on another stream
  arena_.reset();
  x_ = x;
  y_ = y;
  call_ = call;
  pass_ = Pass::kForward;
  result_ = {.plans = call.plans};
  workload_ = workload_of(config_, context_.size());
  workload_.num_tokens = x.size(0);
  workload_.top_k = call.top_k;
  workload_.dropless = call.capacity_factor <= 0;
  workload_.agree_on_tokens = !call.equal_tokens;
  workload_.gate_noise = call.add_noise && config_.gate_noise > 0;
  first_token_ = context_.rank() * x.size(0);
  needed_capacity_ = 0;
  try {
    take_route_buffers();
    build_schedule_into(route_schedule_, Part::kRoute, workload_, kDefaultPlan, context_.cluster());
    // Without a graph the device has work at once; with one, both parts are one piece of work.
    const bool whole = is_static(stream);
    if (!whole) run_schedule(route_schedule_, stream);
    result_.max_tokens = workload_.num_tokens;
    result_.capacity = expert_capacity(call.top_k, call.capacity_factor, workload_.num_tokens,
                                       config_.num_experts, needed_capacity_);
    workload_.capacity = result_.capacity;
    validate(workload_);
    result_.padded_capacity = workload_.padded_capacity();
    fix_plans();
    build_schedule_into(forward_schedule_, Part::kExpert, workload_, result_.plans.forward,
                        context_.cluster());
    take_forward_buffers();
    if (whole) {
      run_schedules(std::array{&route_schedule_, &forward_schedule_}, stream);
    } else {
      run_schedule(forward_schedule_, stream);
    }
  } catch (...) {
    leave_failed(stream);
    throw;
  }
  finish(stream);
  kept_ = call.training;
  return result_;
}

void MoeLayer::Impl::backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
  require(kept_, "MoeLayer::backward: no forward pass with training = true came before");
  require(dy.shape == x_.shape && dx.shape == x_.shape,
          "MoeLayer::backward: dy has shape {} and dx {}, x had {}", to_string(dy.shape), to_string(dx.shape),
          to_string(x_.shape));
  require(dy.dtype == config_.dtype && dx.dtype == config_.dtype,
          "MoeLayer::backward: dy is {} and dx is {}, the layer is {}", name(dy.dtype), name(dx.dtype),
          name(config_.dtype));
  require(dy.device == context_.device() && dx.device == context_.device(),
          "MoeLayer::backward: dy is on {} and dx on {}, the layer is on {}", to_string(dy.device),
          to_string(dx.device), to_string(context_.device()));
  require(dy.contiguous() && dx.contiguous(), "MoeLayer::backward: dy and dx must be contiguous");
  if (queued_) stream.wait(finished_);
  kept_ = false;
  dy_ = dy;
  dx_ = dx;
  loss_gradient_ = loss_gradient;
  pass_ = Pass::kBackward;
  Workload workload = workload_;
  workload.pass = Pass::kBackward;
  try {
    build_schedule_into(backward_schedule_, Part::kExpert, workload, result_.plans.backward,
                        context_.cluster());
    take_backward_buffers();
    if (is_static(stream)) {
      run_schedules(std::array{&backward_schedule_}, stream);
    } else {
      run_schedule(backward_schedule_, stream);
    }
  } catch (...) {
    leave_failed(stream);
    throw;
  }
  finish(stream);
}

void MoeLayer::Impl::run_schedule(Schedule& schedule, Stream& stream) {
  if (probe_.filter) probe_.filter(schedule);
  poison_taken(stream);
  in_expert_part_ = schedule.part == Part::kExpert;
  context_.executor().run(schedule, stream, *this);
  in_expert_part_ = false;
}

void MoeLayer::Impl::finish(Stream& stream) {
  Stream& communication = context_.executor().communication();
  if (stream.device().is_cpu()) {
    abort_if_failed(communication);
    abort_if_failed(stream);
  }
  stream.record(finished_);
  communication.record(communicated_);  // a failed stream no longer waits for the other
  queued_ = true;
}

void MoeLayer::Impl::leave_failed(Stream& stream) {
  // What was queued uses the layer's memory and the caller's tensors, which an exception may take away. Peers
  // that are in the middle of an expert part would wait for this rank; before it, all ranks fail alike or are
  // waiting for nobody.
  if (in_expert_part_) context_.abort(fmt::format("rank {} failed while it queued a pass", context_.rank()));
  in_expert_part_ = false;
  finish(stream);
  wait_for_queued();
}

void MoeLayer::Impl::abort_if_failed(Stream& stream) {
  // Peers must not wait for a rank whose streams do nothing any more.
  stream.enqueue_on_failure([&context = context_](const std::exception_ptr& failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      context.abort(fmt::format("rank {} failed: {}", context.rank(), error.what()));
    } catch (...) {
      context.abort(fmt::format("rank {} failed", context.rank()));
    }
  });
}

RoutingViews MoeLayer::Impl::routing() const {
  return {.scores = route_.scores,
          .indices = route_.indices,
          .gates = route_.gates,
          .locations = route_.locations,
          .counts = route_.counts,
          .loss = route_.loss};
}

std::span<const std::int32_t> MoeLayer::Impl::host_counts() const {
  if (!workload_.dropless && !call_.keep_counts) return {};
  return {host_counts_.as<std::int32_t>(), static_cast<std::size_t>(config_.num_experts)};
}

std::span<const std::int64_t> MoeLayer::Impl::source_counts() const {
  return workload_.dropless ? std::span<const std::int64_t>(source_counts_) : std::span<const std::int64_t>();
}

std::int64_t MoeLayer::Impl::num_dropped_blocking() const {
  require(queued_, "no forward pass has run yet");
  finished_.wait_blocking();
  std::vector<std::int32_t> counts(static_cast<std::size_t>(config_.num_experts));
  copy_blocking({counts.data(), DType::kI32, {config_.num_experts}}, route_.counts);
  std::int64_t dropped = 0;
  for (const std::int32_t count : counts) dropped += std::max<std::int64_t>(count - result_.capacity, 0);
  return dropped;
}

}  // namespace flex
