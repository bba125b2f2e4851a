#pragma once

#include <cstdint>
#include <vector>

#include "costmodel/plan.h"
#include "traces/routing_trace.h"

namespace flex {

/// Looks at the records of one trace in their order: what it lets through can be replayed.
class TraceCheck {
 public:
  /// `header`: validated; must live as long.
  explicit TraceCheck(const TraceHeader& header);

  /// @throws InputError naming the field, as in the file: a layer, rank or expert that is not there; steps or
  /// ranks that go back; a pass that came before, or a backward pass without its forward pass; choices that
  /// are not whole tokens, or more of one expert than there are tokens; plans that do not go together.
  void add(const TraceRecord& record);

  /// True if add() would take a backward record of this step and layer, as far as order is concerned.
  [[nodiscard]] bool awaits_backward(std::int64_t step, std::int32_t layer) const;

 private:
  struct Layer {
    std::int64_t forward_step = -1;  ///< of the last one, -1: none
    std::int64_t backward_step = -1;
    std::optional<Plan> plan;  ///< of the last forward pass
  };

  void check_order(const TraceRecord& record) const;
  void check_counts(const TraceRecord& record) const;

  const TraceHeader& header_;
  std::int64_t step_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace flex
