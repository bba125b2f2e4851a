#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/stream.h"
#include "profiler/mark_source.h"
#include "runtime/moe_layer.h"
#include "runtime/span_recorder.h"

namespace flex {

/// Sizes of a layer that is measured.
struct LayerShape {
  std::int64_t num_tokens = 0;  ///< T, on every rank
  std::int64_t model_dim = 0;
  std::int64_t hidden_dim = 0;
  std::int64_t num_experts = 0;
  std::int64_t top_k = 1;
  double capacity_factor = 1;  ///< above 0

  friend bool operator==(const LayerShape&, const LayerShape&) = default;
};
/// e.g. `T512 M128 H256 E4 k2 f1`.
[[nodiscard]] std::string to_string(const LayerShape& shape);
[[nodiscard]] MoeConfig config_of(const LayerShape& shape, DType dtype);

/// How the operations of a pass follow each other.
enum class PassOrder : std::uint8_t {
  kAsPlanned,
  kOneByOne,  ///< each operation also waits for the one before it, so that none runs beside another
};

/// One training pass as this rank saw it: forward, then backward at once.
struct PassTimes {
  std::int64_t forward_ns = 0;
  std::int64_t backward_ns = 0;
};

/// One rank's layer on random tokens, for measuring. Collective like the layer: all ranks make the same calls.
class TimedLayer {
 public:
  TimedLayer(const LayerShape& shape, DType dtype, std::uint64_t seed, RankContext& context);
  ~TimedLayer();
  TimedLayer(const TimedLayer&) = delete;
  TimedLayer& operator=(const TimedLayer&) = delete;

  /// One pass, with nothing watching. All ranks start together.
  PassTimes time_blocking(const PlanPair& plans);
  /// One pass with all its operations: pass 0 is the route part, 1 forward experts, 2 backward experts. Valid
  /// until the next call.
  std::span<const RecordedOperation> record_blocking(const PlanPair& plans, PassOrder order);
  [[nodiscard]] SpanRecorder& recorder() { return recorder_; }

  /// Of the last pass: 0 route, 1 forward experts, 2 backward experts.
  [[nodiscard]] const Schedule& schedule(std::int32_t pass) const;
  /// Of the forward pass, agreed.
  [[nodiscard]] const Workload& workload() const { return layer_.forward_schedule().workload; }

 private:
  void run(const PlanPair& plans, MarkSource* marks);
  void wait_for_all();

  LayerShape shape_;
  RankContext& context_;
  Tensor x_, dy_, y_, dx_;
  Stream stream_;
  std::unique_ptr<MarkSource> marks_;
  SpanRecorder recorder_;
  std::vector<std::int64_t> arrivals_;
  MoeLayer layer_;
};

}  // namespace flex
