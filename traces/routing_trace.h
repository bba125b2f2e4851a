#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/layer_load.h"
#include "costmodel/plan.h"
#include "costmodel/workload.h"
#include "traces/sparse_counts.h"

/// What a routing trace holds: where every token of a run wanted to go. docs/trace-format.md has the file.
namespace flex {

inline constexpr std::int64_t kTraceVersion = 1;
inline constexpr std::int64_t kMaxTraceWorld = std::int64_t{1} << 20;
inline constexpr std::int64_t kMaxTraceExperts = std::int64_t{1} << 20;
inline constexpr std::int64_t kMaxTraceLayers = 4096;
/// Of an expert on one source rank, as the layer counts them.
inline constexpr std::int64_t kMaxTraceCount = 2'147'483'647;

/// Where a trace comes from.
enum class TraceSource : std::uint8_t { kRecorded, kGenerated, kImported, kResharded };
/// `recorded`, `generated`, `imported`, `resharded`.
[[nodiscard]] std::string_view name(TraceSource source);

/// One step in the making of a trace. What does not apply is empty.
struct TraceOrigin {
  TraceSource source = TraceSource::kRecorded;
  std::string workload;               ///< name of a generated imbalance
  std::string policy;                 ///< of re-sharding
  std::string file;                   ///< that was read
  std::optional<std::int64_t> world;  ///< ranks of what was re-sharded
  std::optional<std::uint64_t> seed;

  friend bool operator==(const TraceOrigin&, const TraceOrigin&) = default;
};

/// One MoE layer of the model.
struct TraceLayer {
  /// num_tokens: of one rank in a full batch; a pass may have fewer or more. capacity and pass are left at
  /// their defaults: they follow from each record. world is the header's, dropless is f <= 0.
  Workload workload;
  double capacity_factor = 1.0;  ///< f: > 0 fixed capacity, 0 dropless, < 0 dropless up to a limit

  friend bool operator==(const TraceLayer&, const TraceLayer&) = default;
};

struct TraceHeader {
  std::string model;     ///< what was trained, for people
  std::string hardware;  ///< what it ran on, for people; empty: none
  int world = 1;
  int ranks_per_node = 1;            ///< divides world
  std::vector<TraceLayer> layers;    ///< records name them by their index
  std::vector<TraceOrigin> origins;  ///< what made this trace, then what that was made from; at least one

  friend bool operator==(const TraceHeader&, const TraceHeader&) = default;
};

/// One pass of one layer in one iteration. A backward record has no counts: they are those of the forward
/// record of the same step and layer, which stands before it.
struct TraceRecord {
  std::int64_t step = 0;
  std::int32_t layer = 0;
  Pass pass = Pass::kForward;
  std::optional<Plan> plan;                 ///< that ran, if one did
  std::optional<std::int64_t> duration_ns;  ///< of the pass, the largest over the ranks, if it was measured
  std::optional<std::int64_t> top_k;        ///< of a forward pass, where it is not the layer's
  std::optional<double> capacity_factor;    ///< the same
  SparseCounts counts;                      ///< of a forward pass

  friend bool operator==(const TraceRecord&, const TraceRecord&) = default;
};

/// The last line of a file.
struct TraceTrailer {
  std::int64_t num_records = 0;  ///< in the file
  std::int64_t num_dropped = 0;  ///< passes that ran and were not written

  friend bool operator==(const TraceTrailer&, const TraceTrailer&) = default;
};

/// @throws InputError naming the first field that cannot be, as it is called in the file: `layers[2]: ...`.
void validate(const TraceHeader& header);

/// k and f of a pass: the record's, or the layer's.
[[nodiscard]] std::int64_t top_k_of(const TraceHeader& header, const TraceRecord& forward);
[[nodiscard]] double capacity_factor_of(const TraceHeader& header, const TraceRecord& forward);

/// What a schedule of one pass is built from: T is the largest number of tokens of any rank, C is
/// expert_capacity() of them. `forward`: a checked forward record.
/// @throws InputError for a capacity that no memory holds.
[[nodiscard]] Workload workload_of(const TraceHeader& header, const TraceRecord& forward, Pass pass);
/// What a policy is asked with: max_over_mean is 1 with a fixed capacity, where counts do not change times,
/// and otherwise that of the choices that are not dropped.
[[nodiscard]] LayerLoad load_of(const TraceHeader& header, const TraceRecord& forward);

}  // namespace flex
