#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/schedule.h"

namespace flex {

/// What else ran on the rank while an operation was measured.
enum class Beside : std::uint8_t { kNothing, kCompute, kCommunication };
/// `nothing`, `compute`, `communication`.
[[nodiscard]] std::string_view name(Beside beside);

/// One measured operation of one rank: what a cost model is calibrated from. One JSON object per line of a
/// file, every size of the operation by its name:
///
///   {"op": "expert_ffn", "dtype": "fp32", "batch": 2, "rows": 64, "columns": 256, "model_dim": 128,
///    "flops": 16777216, "bytes": 917504, "duration_ns": 210400, "device": "...", "source": "..."}
///
/// Sizes that are zero may be left out. `world` and `ranks_per_node` belong to collectives; so do `beside`,
/// `beside_ns` and `algorithm` to operations that were measured while the other stream was busy: what overlap
/// is fitted from. `beside` left out: nothing ran. `issue_ns` belongs to devices that the host queues work
/// for.
struct CostSample {
  OperationKind kind = OperationKind::kGate;
  DType dtype = DType::kF32;
  std::int64_t batch = 0, rows = 0, columns = 0;  ///< as in OperationSize
  std::int64_t model_dim = 0;
  std::int64_t peers = 0, bytes_per_peer = 0, bytes = 0;
  double flops = 0;
  std::int64_t num_chunks = 1;
  int world = 1, ranks_per_node = 1;
  Beside beside = Beside::kNothing;
  AllToAllAlgorithm algorithm = AllToAllAlgorithm::kLinear;  ///< of the plan under which it ran
  std::int64_t duration_ns = 0;
  std::int64_t beside_ns =
      0;  ///< of the duration, while the other stream was busy; 0 with `beside`: all of it
  std::int64_t issue_ns = 0;  ///< that the host needed to queue it; 0: not known
  std::string device;         ///< what ran it, e.g. the model name of the processor
  std::string source;         ///< who measured it, e.g. the command

  friend bool operator==(const CostSample&, const CostSample&) = default;
};

/// Of an operation alone that took any time: what calibration needs at least one of.
[[nodiscard]] inline bool is_usable_alone(const CostSample& sample) {
  return sample.beside == Beside::kNothing && sample.duration_ns > 0;
}

/// The sample of an operation that ran in `schedule`. `device` and `source` are left empty.
[[nodiscard]] CostSample sample_of(const Schedule& schedule, const Operation& operation,
                                   std::int64_t duration_ns, int ranks_per_node);

/// One line, without its end.
[[nodiscard]] std::string to_json_line(const CostSample& sample);
/// @throws InputError naming `file`, the line and the key: unknown operations and types, negative sizes or
/// durations.
[[nodiscard]] std::vector<CostSample> parse_cost_samples(std::string_view text, const std::string& file);
[[nodiscard]] std::vector<CostSample> read_cost_samples(const std::filesystem::path& file);
/// Written beside its place and renamed.
void write_cost_samples(const std::filesystem::path& file, std::span<const CostSample> samples);

}  // namespace flex
