#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/layer_benchmark.h"

namespace flex {

/// How a layer is watched while it is timed.
enum class Watching : std::uint8_t {
  kNone,          ///< nothing; where it is first, nothing of CUPTI is loaded
  kCuptiSampled,  ///< CUPTI records one iteration in 50, with switching it on and off
  kCuptiAlways,   ///< CUPTI records every iteration
  kEventsAlways,  ///< a pair of events for each operation
};
inline constexpr int kNumWatchings = static_cast<int>(Watching::kEventsAlways) + 1;
/// `none`, `cupti 1 in 50`, `cupti always`, `events always`.
[[nodiscard]] std::string_view name(Watching watching);

/// What one way of watching costs.
struct ProfilingCost {
  Watching watching = Watching::kNone;
  double iteration_us = 0;  ///< median over the rounds of a round's mean iteration
  double ratio = 1;         ///< median over the rounds of its time to that of the same round without
  double limit = 0;         ///< of the ratio; 0: none is asked
  std::string remarks;      ///< RangeSource::remarks()
};

struct ProfilingCosts {
  int iterations = 0;            ///< of a round
  bool loaded_before = false;    ///< libcupti was in the process before anything asked for it
  bool records_by_cupti = true;  ///< false: it could not be used, and events took its place
  std::vector<ProfilingCost> costs;
  double switching_on_us = 0;  ///< mean time of the host to begin recording by CUPTI ...
  double collecting_us = 0;    ///< ... and to fetch the records of an iteration
};

/// Times `benchmark`'s first plan in all ways of watching in turn, round after round, so that drift of the
/// machine is not taken for a cost. Iterations are queued without waiting in between; with CUPTI always,
/// records are on for a whole round and fetched after it. On one rank, without graphs. Blocking.
/// @throws InputError for more than one rank, or a CPU.
[[nodiscard]] ProfilingCosts measure_profiling(const LayerBenchmark& benchmark, RankContext& context,
                                               const std::function<void(int, int)>& progress = {});

/// The named suite `profiling`: a layer whose forward pass takes about a millisecond on an H200.
[[nodiscard]] LayerBenchmark profiling_layer(DType dtype);

/// Whether a library whose file's name contains `name` is mapped into this process. @source /proc/self/maps
[[nodiscard]] bool is_library_loaded(std::string_view name);

}  // namespace flex
