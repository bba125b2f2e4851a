#pragma once

#include "costmodel/critical_path.h"
#include "costmodel/pass_sequence.h"

namespace flex {

/// What one pass takes.
struct PassTime {
  double total_us = 0;
  double error_us = 0;  ///< band, see CriticalPath::error_us
};

/// Predicts single passes as they run in a training step. There a backward pass is queued while the forward
/// pass still runs, so that the host has a lead which it has not if the pass runs by itself. Holds memory
/// that is used again.
class PassPredictor {
 public:
  /// The pass that `stack.passes` names, forward or backward, after stack.forward if it is backward.
  /// @throws InputError as PassSequence::build() and Simulator::run().
  [[nodiscard]] PassTime predict(LayerStack stack, const OperationCosts& costs);
  /// The pass of the last prediction by itself. Valid until the next.
  [[nodiscard]] const Simulation& alone() const { return *alone_; }

 private:
  PassSequence sequence_;
  PassSequence training_sequence_;
  Simulator simulator_;
  Simulator training_simulator_;
  CriticalPath path_;
  const Simulation* alone_ = nullptr;
};

/// When the last operation of the first `num_passes` passes was done on any rank.
[[nodiscard]] double end_of_passes_us(const Simulation& simulation, std::int32_t num_passes);

}  // namespace flex
