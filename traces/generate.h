#pragma once

#include <cstdint>

#include "traces/imbalance_workload.h"
#include "traces/routing_trace.h"

namespace flex {

/// A trace that nothing ran for.
struct GenerateOptions {
  ImbalanceWorkload imbalance = ImbalanceWorkload::kBalanced;
  std::uint64_t seed = 0;
  std::int64_t num_steps = 1;
  bool backward = true;  ///< a backward record follows for each forward one, in the opposite order of layers
  TraceHeader header;    ///< its origins are overwritten
};

/// The header that the trace gets. @throws InputError for sizes that cannot be.
[[nodiscard]] TraceHeader generated_header(const GenerateOptions& options);

/// Counts of one forward pass; a function of its arguments alone, with the same bits on every machine.
///
/// A source rank with t tokens gives each expert its fraction (expert_weights()) of the k t choices, rounded
/// down or up; which way differs from rank to rank and step to step, so that sums over ranks round away less.
[[nodiscard]] SparseCounts generated_counts(const GenerateOptions& options, std::int64_t step,
                                            std::int64_t layer);

/// Calls emit(record) for every record, in the order of a file. `emit` may take the record's memory.
template <class Emit>
void generate(const GenerateOptions& options, Emit&& emit) {
  const auto num_layers = static_cast<std::int32_t>(options.header.layers.size());
  for (std::int64_t step = 0; step < options.num_steps; ++step) {
    for (std::int32_t layer = 0; layer < num_layers; ++layer) {
      emit(TraceRecord{.step = step, .layer = layer, .counts = generated_counts(options, step, layer)});
    }
    for (std::int32_t layer = num_layers; options.backward && layer-- > 0;) {
      emit(TraceRecord{.step = step, .layer = layer, .pass = Pass::kBackward});
    }
  }
}

}  // namespace flex
