#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "costmodel/build_schedule.h"
#include "costmodel/simulator.h"

namespace flex {

/// Which passes of a layer run.
enum class Passes : std::uint8_t { kForward, kBackward, kBoth };

/// A stack of equal layers, with nothing between them.
struct LayerStack {
  Workload workload;  ///< of each layer; its pass does not matter
  Plan forward;
  Plan backward;  ///< with the forward plan's r
  Cluster cluster;
  Passes passes = Passes::kBoth;
  std::int64_t num_layers = 1;
  /// Gradients of the parameters that every rank holds, all-reduced after the last layer; 0: none are.
  std::int64_t shared_gradient_bytes = 0;
};

/// The schedules of a stack in the order in which they run: for each layer route and forward experts, then
/// backwards through the layers, then the shared gradients. Reusable: allocates nothing once it has built as
/// much.
class PassSequence {
 public:
  /// `counts`: (num_layers, W, E) choices as SimulatedPass has them, or empty; so is `usual_count`. Must live
  /// as long as passes().
  /// @throws InputError as build_schedule(), for less than one layer, or for counts that are not of that
  /// shape.
  void build(const LayerStack& stack, std::span<const std::int64_t> counts = {},
             std::int64_t usual_count = 0);

  /// Valid until the next build().
  [[nodiscard]] std::span<const SimulatedPass> passes() const { return passes_; }

 private:
  Schedule route_, forward_, backward_, shared_;
  std::vector<SimulatedPass> passes_;
};

/// One all-reduce over the ranks of `workload`, on the communication stream.
void build_shared_gradients_into(Schedule& schedule, const Workload& workload, std::int64_t bytes);

}  // namespace flex
