#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "costmodel/cost_sample.h"
#include "runtime/layer_shapes.h"
#include "runtime/measured_operations.h"
#include "runtime/pass_measurement.h"
#include "runtime/rank_context.h"

namespace flex {

/// Told how many milliseconds of how many are used up.
using BudgetProgress = std::function<void(int, int)>;

/// What is measured, and how long.
struct ProfileSettings {
  std::vector<LayerShape> shapes;
  DType dtype = DType::kF32;
  int plans_per_shape = 5;  ///< the first of the plan space, and others drawn by the seed
  std::uint64_t seed = 1;   ///< of plans and tokens
  double budget_s = 20;
  int min_rounds = 3;  ///< these are run in any case
  OperationSettings operations;
};

/// Measures what operations take on the ranks of this host, in the passes of real layers: one after the other
/// for their durations with nothing beside them, and as planned for those beside the other stream and for
/// those of whole passes. Passes are not replayed as graphs: a graph's operations are no longer queued one by
/// one, which the cost model is of.
///
/// It goes round all shapes and plans again and again, so that a host that is slower for a while is slower
/// for all of them. Collective: all ranks make the same calls. Which plans are run depends on the seed alone.
class ProfileSweep {
 public:
  /// Makes one layer for each shape. @throws InputError for no shapes, or one that these ranks cannot run.
  ProfileSweep(const ProfileSettings& settings, RankContext& context, Stream& stream);
  ~ProfileSweep();
  ProfileSweep(const ProfileSweep&) = delete;
  ProfileSweep& operator=(const ProfileSweep&) = delete;

  void run_round_blocking();

  /// Medians over the rounds; of operations of equal sizes their median alone, and their mean beside the
  /// other stream, if they were so for a tenth of their time. Equal on all ranks.
  [[nodiscard]] std::vector<CostSample> samples() const;
  /// Forward and backward of each shape and plan as a whole, with nothing watching; without kinds, which are
  /// among the samples. Equal on all ranks. Needs a round.
  [[nodiscard]] std::vector<MeasuredPass> passes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Rounds until the budget is used up. `progress` is called on rank 0's thread.
[[nodiscard]] std::vector<CostSample> profile_sweep(const ProfileSettings& settings, RankContext& context,
                                                    const BudgetProgress& progress = {});

struct Rounds {
  int count = 0;
  bool stopped = false;  ///< by should_stop(), of any rank
};

/// Calls run_round() until `budget_s` seconds are used up, by rank 0's clock, but at least `min_rounds` times
/// unless should_stop() says yes after one. Collective; equal on all ranks.
Rounds run_rounds(double budget_s, int min_rounds, RankContext& context,
                  const std::function<void()>& run_round, const BudgetProgress& progress = {},
                  const std::function<bool()>& should_stop = {});

}  // namespace flex
