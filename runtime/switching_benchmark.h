#pragma once

#include <vector>

#include "runtime/layer_benchmark.h"

namespace flex {

/// What it costs to change the plan between iterations, beside what the plans themselves take.
struct SwitchingCost {
  std::int64_t tokens = 0;
  PlanPair first, second;
  double first_us = 0;        ///< an iteration of many with the first plan
  double second_us = 0;       ///< ... with the second
  double alternating_us = 0;  ///< mean iteration when the two take turns, so that each is a switch
  /// alternating - (first + second) / 2, each of one round: the median over the rounds.
  double overhead_us = 0;
};

/// Alternates each of benchmark.plans with the first of them, on random tokens and one rank, queueing
/// iterations without waiting in between, without graphs. Times are medians over `repeats` rounds, each of
/// the same number of iterations of all three kinds one after the other, so that drift of the machine is not
/// taken for a cost. Blocking. @throws InputError for fewer than two plans, or more than one rank.
[[nodiscard]] std::vector<SwitchingCost> measure_switching(const LayerBenchmark& benchmark,
                                                           RankContext& context);

/// The named suite `switching`: a layer of few tokens, where the host that queues the work is the limit, and
/// one of many; forward and backward, every plan of one rank against the default. Blocking.
[[nodiscard]] std::vector<SwitchingCost> run_switching_suite(
    DType dtype, RankContext& context, const std::function<void(int, int)>& progress = {});

}  // namespace flex
