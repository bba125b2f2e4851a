#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "costmodel/pass_sequence.h"
#include "costmodel/plan_pair.h"
#include "traces/routing_trace.h"
#include "traces/trace_reader.h"

namespace flex {

/// One iteration of one layer: a forward record, with what its backward record says.
struct TraceIteration {
  std::int64_t step = 0;
  std::int32_t layer = 0;
  std::int64_t top_k = 1;
  double capacity_factor = 1;
  bool has_backward = false;
  std::optional<Plan> forward_plan;  ///< that ran, if one did
  std::optional<Plan> backward_plan;
  std::optional<std::int64_t> forward_ns;  ///< the largest over the ranks, if it was measured
  std::optional<std::int64_t> backward_ns;
  SparseCounts counts;  ///< before any are dropped

  /// Where only one pass says what ran, the other is taken to be the same.
  [[nodiscard]] std::optional<PlanPair> plans() const;
};

/// A trace in memory, in the order of its forward records: 8 bytes for each count that is not zero.
struct IterationTrace {
  TraceHeader header;
  std::vector<TraceIteration> iterations;
  std::optional<std::int64_t> num_dropped;  ///< passes that ran and are not in the file; nothing: not known
  std::optional<std::string> damage;        ///< what ended the file early

  /// Both, if any backward pass was recorded.
  [[nodiscard]] Passes passes() const;
  /// The layer of an iteration with the k and f of that iteration.
  [[nodiscard]] TraceLayer layer_of(const TraceIteration& iteration) const;
};

/// Reads to the end. @throws as TraceReader::next(); InputError for a trace without forward records.
[[nodiscard]] IterationTrace read_iterations(TraceReader& reader);

/// Puts records in their order together. @throws InputError for a backward record without its forward record.
class IterationCollector {
 public:
  explicit IterationCollector(TraceHeader header);
  void add(TraceRecord&& record);
  [[nodiscard]] IterationTrace take() && { return std::move(trace_); }

 private:
  IterationTrace trace_;
  std::vector<std::int64_t> last_of_layer_;  // index of the iteration, -1: none
};

}  // namespace flex
