#pragma once

#include <memory>
#include <span>

#include "costmodel/simulation.h"

namespace flex {

/// One schedule to simulate. What it points to must live during the run.
struct SimulatedPass {
  const Schedule* schedule = nullptr;
  /// (W, E) choices by source rank and expert, before drops; empty: all ranks are alike.
  std::span<const std::int64_t> counts{};
  /// Without counts, for counted experts: choices that one source rank has for each expert of a rank but the
  /// first, which has the whole capacity. 0: all have.
  std::int64_t usual_count = 0;
};

struct SimulationSettings {
  bool fold = true;  ///< one rank stands for all where all ranks' operations cost the same
};

/// Runs passes one after the other on a virtual clock, on all ranks, with exactly the executor's order:
/// operations of one stream in the schedule's order; an operation starts when what it waits for is done and
/// the host has queued it; the host queues operations one after the other, each in OperationCost::issue_us,
/// and waits for host operations and runs them in place;
/// communication of a pass starts after what the compute stream held before it, and the compute stream goes
/// on after the pass's last communication. Collectives begin when every member of their group is ready, and
/// end together. Waiting for a peer occupies a stream but slows nothing down.
///
/// While both streams of a rank run, compute proceeds at 1 / compute and communication at 1 / communication
/// of OverlapSlowdown; a collective is slowed while any member computes. The rates change at the moment at
/// which the other stream becomes busy or idle. Host operations neither slow nor are slowed.
///
/// Guaranteed: equal input gives equal bits, and folded and unfolded runs do. With both slowdowns 1 times are
/// longest paths, and no operation ends earlier when any cost grows. With larger ones that is not so for any
/// costs (where overlap costs more than it saves, an operation that starts later may be faster with what it
/// then no longer meets), but the total is never below that without slowdowns, nor above that of all costs
/// times their slowdowns.
///
/// Holds the memory of its runs: allocates nothing once it has run as much. Several may run at once, each in
/// its own thread.
class Simulator {
 public:
  Simulator();
  ~Simulator();
  Simulator(Simulator&&) noexcept;
  Simulator& operator=(Simulator&&) noexcept;

  /// The result is valid until the next run.
  /// @throws InputError if the passes are of different world sizes, counts do not fit (see RankLoads), a cost
  /// or the error of a pass is negative or not finite, or a slowdown is below 1.
  const Simulation& run(std::span<const SimulatedPass> passes, const OperationCosts& costs,
                        SimulationSettings settings = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The same once, as a value.
[[nodiscard]] Simulation simulate(std::span<const SimulatedPass> passes, const OperationCosts& costs,
                                  SimulationSettings settings = {});

}  // namespace flex
