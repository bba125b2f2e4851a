#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "kernels/stream_graph.h"

namespace flex {

/// When passes are captured as graphs.
struct GraphPolicy {
  int repeats = 3;  ///< equal passes that run one operation at a time before one is captured; 0: none is
  int kept = 32;    ///< most graphs that are kept
};

inline constexpr GraphPolicy kNoGraphs{.repeats = 0};

/// How often passes were captured, and replayed (the first launch after a capture included).
struct GraphCounts {
  std::int64_t captured = 0;
  std::int64_t replayed = 0;
};

/// Everything that the queued work of a pass depends on: sizes, addresses, plans, scalars.
using PassKey = std::array<std::uint64_t, 16>;

/// Graphs of the passes of one layer, kept while passes repeat. A pass that has run `repeats` times with
/// equal keys is captured; from then on it is replayed. A kept graph makes place for another only once it
/// has not been used for a long time, so that more repeating passes than places do not capture each other
/// away. After warm-up nothing is allocated.
class PassGraphs {
 public:
  PassGraphs() = default;

  void set_policy(const GraphPolicy& policy);
  [[nodiscard]] bool enabled() const { return policy_.repeats > 0 && policy_.kept > 0; }

  /// Queues the pass on `stream`: by `queue`, or by the graph of an equal one. What `queue` throws leaves at
  /// once, and nothing is kept of it.
  void run(const PassKey& key, Stream& stream, const std::function<void()>& queue);
  /// Graphs may still run on the device when this returns; the driver frees them after that.
  void clear() { entries_.clear(); }
  [[nodiscard]] GraphCounts counts() const { return counts_; }

 private:
  struct Entry {
    PassKey key{};
    int seen = 0;
    std::uint64_t last_run = 0;
    std::optional<StreamGraph> graph;
  };
  Entry& entry_of(const PassKey& key);
  [[nodiscard]] bool make_place();

  GraphPolicy policy_;
  GraphCounts counts_;
  std::uint64_t num_runs_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace flex
