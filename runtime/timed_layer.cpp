#include "runtime/timed_layer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/require.h"
#include "kernels/hold_stream.h"
#include "runtime/max_over_ranks.h"
#include "runtime/random_tensor.h"

namespace flex {
namespace {

Tensor random_tokens(const LayerShape& shape, DType dtype, std::uint64_t seed, std::uint64_t stream,
                     const RankContext& context) {
  constexpr std::uint64_t kStreamsPerRank = 2;
  return random_normal_tensor(dtype, {shape.num_tokens, shape.model_dim}, context.device(), seed,
                              kStreamsPerRank * static_cast<std::uint64_t>(context.rank()) + stream);
}

LayerShape checked(const LayerShape& shape, const MoeConfig& config) {
  require(shape.model_dim == config.model_dim && shape.hidden_dim == config.hidden_dim &&
              shape.num_experts == config.num_experts,
          "a layer of M{} H{} E{} for tokens of the shape {}; they must agree", config.model_dim,
          config.hidden_dim, config.num_experts, to_string(shape));
  return shape;
}

// A wait for the operation before stands for all others, which are no later than that.
void follow_one_by_one(Schedule& schedule) {
  std::vector<Operation>& operations = schedule.operations;
  for (std::size_t i = 1; i < operations.size(); ++i) {
    operations[i].num_waits = operations[i].stream == operations[i - 1].stream ? 0 : 1;
    operations[i].waits[0] = static_cast<std::int16_t>(i - 1);
  }
}

}  // namespace

TimedLayer::TimedLayer(const LayerShape& shape, const MoeConfig& config, std::uint64_t seed,
                       RankContext& context, Stream& stream, RangeClock clock)
    : shape_(checked(shape, config)),
      context_(context),
      x_(random_tokens(shape, config.dtype, seed, 0, context)),
      dy_(random_tokens(shape, config.dtype, seed, 1, context)),
      y_(config.dtype, x_.shape(), context.device()),
      dx_(config.dtype, x_.shape(), context.device()),
      stream_(stream),
      marks_(make_mark_source(context.device())),
      recorder_(make_range_source(context.device(), clock, context.rank(), context.rank()), context.rank()),
      arrivals_(static_cast<std::size_t>(context.size())),
      layer_(config, context) {}

TimedLayer::TimedLayer(const LayerShape& shape, const MoeConfig& config, std::uint64_t seed,
                       RankContext& context, Stream& stream)
    : TimedLayer(shape, config, seed, context, stream, RangeClock::kMarks) {}

TimedLayer::TimedLayer(const LayerShape& shape, DType dtype, std::uint64_t seed, RankContext& context,
                       Stream& stream, RangeClock clock)
    : TimedLayer(shape, config_of(shape, dtype), seed, context, stream, clock) {}

TimedLayer::~TimedLayer() { context_.executor().set_observer(nullptr); }

std::int64_t TimedLayer::meet_all(std::int64_t number) {
  context_.control().gather_host_blocking({&number, 1}, arrivals_);
  return std::ranges::max(arrivals_);
}

void TimedLayer::run(const PlanPair& plans, MarkSource* marks, double hold_us) {
  constexpr double kLossGradient = 0.01;
  const ForwardCall call{.top_k = shape_.top_k,
                         .capacity_factor = shape_.capacity_factor,
                         .plans = plans,
                         .training = true,
                         .equal_tokens = true};
  // Ranks that share a device are held equally long, so that they go on together.
  const std::int64_t hold_ns = meet_all(std::llround(hold_us * 1e3));
  if (hold_ns > 0) hold_stream(stream_, static_cast<double>(hold_ns) * 1e-3);
  issue_clock_.start();
  const std::int64_t begin_ns = steady_now_ns();
  if (marks != nullptr) marks->mark(stream_);
  max_over_mean_ = layer_.forward(x_, y_, call, stream_).max_over_mean;
  if (marks != nullptr) marks->mark(stream_);
  layer_.backward(dy_, dx_, kLossGradient, stream_);
  if (marks != nullptr) marks->mark(stream_);
  queueing_us_ = static_cast<double>(steady_now_ns() - begin_ns) * 1e-3;
  stream_.synchronize_blocking();
}

PassTimes TimedLayer::time_blocking(const PlanPair& plans) {
  marks_->start_blocking(stream_);
  run(plans, marks_.get());
  const std::span<const std::int64_t> times_ns = marks_->times_ns();
  return {.forward_ns = times_ns[1] - times_ns[0], .backward_ns = times_ns[2] - times_ns[1]};
}

PassTimes TimedLayer::time_slowest_blocking(const PlanPair& plans) {
  const PassTimes own = time_blocking(plans);
  std::array<std::int64_t, 2> slowest = {own.forward_ns, own.backward_ns};
  max_over_ranks_blocking(slowest, context_.control());
  return {.forward_ns = slowest[0], .backward_ns = slowest[1]};
}

std::span<const RecordedOperation> TimedLayer::record_blocking(const PlanPair& plans, PassOrder order) {
  return record(plans, order, context_.device().is_cuda() ? hold_us() : 0);
}

std::span<const RecordedOperation> TimedLayer::trace_blocking(const PlanPair& plans) {
  return record(plans, PassOrder::kAsPlanned, 0);
}

std::span<const RecordedOperation> TimedLayer::record(const PlanPair& plans, PassOrder order,
                                                      double hold_us) {
  recorder_.start_blocking(stream_);
  if (order == PassOrder::kOneByOne) layer_.set_probe({.filter = follow_one_by_one});
  context_.executor().set_observer(&recorder_);
  run(plans, nullptr, hold_us);
  context_.executor().set_observer(nullptr);
  layer_.set_probe({});
  return recorder_.issued();
}

std::span<const std::int64_t> TimedLayer::issue_blocking(const PlanPair& plans) {
  context_.executor().set_observer(&issue_clock_);
  run(plans, nullptr);
  context_.executor().set_observer(nullptr);
  return issue_clock_.issue_ns();
}

double TimedLayer::hold_us() const {
  constexpr double kRecording = 2;      // queueing takes longer with CUPTI's callbacks around each call
  constexpr double kSwitchingOn = 500;  // and its first calls take longest
  constexpr double kMost = 50'000;
  return std::min(kRecording * queueing_us_ + kSwitchingOn, kMost);
}

const Schedule& TimedLayer::schedule(std::int32_t pass) const {
  if (pass == 0) return layer_.route_schedule();
  return pass == 1 ? layer_.forward_schedule() : layer_.backward_schedule();
}

}  // namespace flex
