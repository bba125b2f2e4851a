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
  kCuptiSampled,  ///< CUPTI records one iteration in 50, which is read some iterations later
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

/// What the host's thread that queues the iterations needs for recording by CUPTI, in medians. While the
/// device has more queued than that, it costs the device nothing.
struct ProfilingHostTimes {
  double queueing_us = 0;            ///< an iteration, unwatched; the rest of its time the host is ahead
  double switching_on_us = 0;        ///< SpanRecorder::start_blocking() of a sampled iteration
  double switching_off_us = 0;       ///< its stop()
  double taking_us = 0;              ///< all its take_stopped(), those in vain too
  double iterations_late = 0;        ///< from its stop() until it was taken
  double switching_on_quiet_us = 0;  ///< of one iteration with a device that has nothing to do
  double reading_quiet_us = 0;       ///< and to fetch and join its records then
};

struct ProfilingCosts {
  int iterations = 0;            ///< of a round
  bool loaded_before = false;    ///< libcupti was in the process before anything asked for it
  bool records_by_cupti = true;  ///< false: it could not be used, and events took its place
  std::vector<ProfilingCost> costs;
  ProfilingHostTimes host;
};

/// Times `benchmark`'s first plan in all ways of watching in turn, round after round, each time another first
/// and every other time backwards, so that drift of the machine is not taken for a cost. Iterations are
/// queued without waiting in between, in all of them alike. A round begins with a quiet device, but its
/// sampled iterations lie where the host is ahead, as in a long run; they are taken when they are there, at
/// the latest at the round's end. With CUPTI always, one recording of 50 iterations follows the other, and is
/// taken while the next one runs; the events of a round are read at its end. Before a round come iterations
/// that nobody times, so that the device is as warm in all of them. On one rank, without graphs. Blocking.
/// @throws InputError for more than one rank, or a CPU.
[[nodiscard]] ProfilingCosts measure_profiling(const LayerBenchmark& benchmark, RankContext& context,
                                               const std::function<void(int, int)>& progress = {});

/// The named suite `profiling`: a layer whose forward pass takes about a millisecond on an H200.
[[nodiscard]] LayerBenchmark profiling_layer(DType dtype);

/// Whether a library whose file's name contains `name` is mapped into this process. @source /proc/self/maps
[[nodiscard]] bool is_library_loaded(std::string_view name);

}  // namespace flex
