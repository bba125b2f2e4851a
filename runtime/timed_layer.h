#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/stream.h"
#include "profiler/mark_source.h"
#include "runtime/issue_clock.h"
#include "runtime/layer_shapes.h"
#include "runtime/moe_layer.h"
#include "runtime/span_recorder.h"

namespace flex {

/// How the operations of a pass follow each other.
enum class PassOrder : std::uint8_t {
  kAsPlanned,
  kOneByOne,  ///< each operation also waits for the one before it, so that none runs beside another
};

/// One training pass as this rank saw it: forward, then backward at once.
struct PassTimes {
  std::int64_t forward_ns = 0;
  std::int64_t backward_ns = 0;

  [[nodiscard]] double us(Pass pass) const {
    return static_cast<double>(pass == Pass::kForward ? forward_ns : backward_ns) * 1e-3;
  }
};

/// One rank's layer on random tokens, for measuring. Collective like the layer: all ranks make the same
/// calls.
class TimedLayer {
 public:
  /// `stream` must outlive it. Layers that are measured in turns share one: the worker of a CPU stream that
  /// was idle for long may wake up on a core that another rank uses. With shape.capacity_factor <= 0 the
  /// routing is dropless. @throws InputError if `config` is of other dimensions than `shape`, or cannot be.
  TimedLayer(const LayerShape& shape, const MoeConfig& config, std::uint64_t seed, RankContext& context,
             Stream& stream);
  /// With config_of(shape, dtype). Operations are recorded by `clock`.
  TimedLayer(const LayerShape& shape, DType dtype, std::uint64_t seed, RankContext& context, Stream& stream,
             RangeClock clock = RangeClock::kMarks);
  ~TimedLayer();
  TimedLayer(const TimedLayer&) = delete;
  TimedLayer& operator=(const TimedLayer&) = delete;

  /// One pass, with nothing watching. All ranks start together.
  PassTimes time_blocking(const PlanPair& plans);
  /// The longest that any rank took, forward and backward each. The same on all ranks.
  PassTimes time_slowest_blocking(const PlanPair& plans);
  /// One pass with all its operations, also those that the recorder's source did not see, see
  /// SpanRecorder::issued(): pass 0 is the route part, 1 forward experts, 2 backward experts. On CUDA the
  /// device is held until the host has queued all of it, so that no operation waits for the host. Valid until
  /// the next call.
  std::span<const RecordedOperation> record_blocking(const PlanPair& plans, PassOrder order);
  /// The same as planned, as it runs when nothing holds the device up.
  std::span<const RecordedOperation> trace_blocking(const PlanPair& plans);
  /// One pass, and what the host needed to queue each of its operations, in the order of record_blocking().
  /// Valid until the next call.
  std::span<const std::int64_t> issue_blocking(const PlanPair& plans);
  /// See MoeLayer; without a call, the layer's own policy holds.
  void set_graph_policy(const GraphPolicy& policy) { layer_.set_graph_policy(policy); }
  [[nodiscard]] SpanRecorder& recorder() { return recorder_; }

  /// Of the last pass: 0 route, 1 forward experts, 2 backward experts.
  [[nodiscard]] const Schedule& schedule(std::int32_t pass) const;
  /// Of the forward pass, agreed.
  [[nodiscard]] const Workload& workload() const { return layer_.forward_schedule().workload; }
  /// The same with what else is known of the last pass's routing.
  [[nodiscard]] LayerLoad load() const { return {workload(), max_over_mean_}; }

 private:
  TimedLayer(const LayerShape& shape, const MoeConfig& config, std::uint64_t seed, RankContext& context,
             Stream& stream, RangeClock clock);
  void run(const PlanPair& plans, MarkSource* marks, double hold_us = 0);
  std::span<const RecordedOperation> record(const PlanPair& plans, PassOrder order, double hold_us);
  /// Waits for all ranks. Returns the largest of their numbers.
  std::int64_t meet_all(std::int64_t number);
  [[nodiscard]] double hold_us() const;

  LayerShape shape_;
  RankContext& context_;
  Tensor x_, dy_, y_, dx_;
  Stream& stream_;
  std::unique_ptr<MarkSource> marks_;
  SpanRecorder recorder_;
  IssueClock issue_clock_;
  double queueing_us_ = 0;  ///< that the host took for the last recorded pass
  std::vector<std::int64_t> arrivals_;
  double max_over_mean_ = 1;
  MoeLayer layer_;
};

}  // namespace flex
