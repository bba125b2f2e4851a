#include "costmodel/simulation_spans.h"

#include <cmath>

namespace flex {
namespace {

// Rounds up and down alike for all, so that spans that touch keep touching.
std::int64_t to_ns(double us) { return std::llround(us * 1e3); }

}  // namespace

std::vector<Span> spans_of(const Simulation& simulation, std::string_view process_group) {
  std::vector<Span> spans;
  spans.reserve(simulation.times.size());
  for (int rank = 0; rank < simulation.num_ranks; ++rank) {
    for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
      const SimulatedOperation& simulated = simulation.operations[i];
      const Operation& operation = simulated.operation;
      const OperationTimes& times = simulation.times[simulation.at(rank, i)];
      spans.push_back({.name = label(operation),
                       .process_group = std::string(process_group),
                       .rank = rank,
                       .stream = std::string(name(operation.stream)),
                       .begin_ns = to_ns(times.begin_us),
                       .end_ns = to_ns(times.end_us),
                       .pass = simulated.pass,
                       .operation = simulated.index,
                       .chunk = operation.num_chunks > 1 ? operation.chunk : -1,
                       .bytes = operation.size.bytes,
                       .flops = operation.size.flops,
                       .origin = std::string(name(simulation.costs[simulation.at(rank, i)].origin))});
    }
  }
  return spans;
}

}  // namespace flex
