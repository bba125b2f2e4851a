#include "traces/replay/plan_sequence.h"

#include <vector>

#include "traces/replay/policy_replay.h"
#include "traces/replay/scenario_trace.h"

namespace flex {

PlanSequenceCheck check_plan_sequence(const IterationTrace& trace, PlanPolicy& policy) {
  PlanSequenceCheck check;
  PolicyCalls calls(policy, trace.header.layers.size());
  std::vector<LayerLoad> loads(trace.header.layers.size());  // of each layer's last iteration
  for (const TraceIteration& iteration : trace.iterations) {
    const LayerLoad load = replay_load(trace.layer_of(iteration), iteration.counts);
    const PlanPair chosen = calls.choose(iteration.layer, load);
    const std::optional<PlanPair> recorded = iteration.plans();
    if (!recorded) continue;
    ++check.num_compared;
    // Without a backward pass nothing says which plan it would have had.
    const bool is_equal = chosen.forward == recorded->forward &&
                          (!iteration.backward_plan || chosen.backward == recorded->backward);
    if (is_equal) {
      ++check.num_equal;
    } else if (!check.first) {
      check.first = {
          .step = iteration.step, .layer = iteration.layer, .recorded = *recorded, .chosen = chosen};
    }
    if (!iteration.forward_ns || (iteration.has_backward && !iteration.backward_ns)) continue;
    LayerLoad& kept = loads[static_cast<std::size_t>(iteration.layer)];
    kept = load;
    // A forward pass alone ran with a pair, too, of which the trace has one half.
    const PlanPair ran = iteration.backward_plan || !is_equal ? *recorded : chosen;
    calls.ran(iteration.layer, kept, ran,
              {.forward_ns = *iteration.forward_ns, .backward_ns = iteration.backward_ns.value_or(0)});
  }
  return check;
}

}  // namespace flex
