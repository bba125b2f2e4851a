#include "costmodel/pass_predictor.h"

#include <algorithm>

namespace flex {

double end_of_passes_us(const Simulation& simulation, std::int32_t num_passes) {
  double end_us = 0;
  for (int rank = 0; rank < simulation.num_ranks; ++rank) {
    const std::span<const OperationTimes> times = simulation.times_of(rank);
    for (std::size_t i = 0; i < times.size() && simulation.operations[i].pass < num_passes; ++i) {
      end_us = std::max(end_us, times[i].end_us);
    }
  }
  return end_us;
}

PassTime PassPredictor::predict(LayerStack stack, const OperationCosts& costs) {
  sequence_.build(stack);
  alone_ = &simulator_.run(sequence_.passes(), costs);
  find_critical_path_into(path_, *alone_);
  PassTime time{.total_us = alone_->total_us, .error_us = path_.error_us};
  const bool host_counts =
      std::ranges::any_of(alone_->costs, [](const auto& cost) { return cost.issue_us > 0; });
  if (stack.passes != Passes::kBackward || !host_counts) return time;
  stack.passes = Passes::kBoth;
  training_sequence_.build(stack);
  const Simulation& training = training_simulator_.run(training_sequence_.passes(), costs);
  const auto num_forward =
      static_cast<std::int32_t>(training_sequence_.passes().size() - sequence_.passes().size());
  const double total_us = training.total_us - end_of_passes_us(training, num_forward);
  if (time.total_us > 0) time.error_us *= total_us / time.total_us;
  time.total_us = total_us;
  return time;
}

}  // namespace flex
