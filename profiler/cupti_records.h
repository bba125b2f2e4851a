#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "profiler/cupti_counts.h"
#include "profiler/work_id.h"

namespace flex {

/// What a GPU did, as one CUPTI record says it, joined with the work that asked for it.
struct CuptiActivity {
  enum class Kind : std::uint8_t { kKernel, kMemcpy, kMemset };

  WorkId launch;  ///< what asked for it
  WorkId work;    ///< what it is for: the same, or of a graph's node what that was captured for, in the
                  ///< launch's iteration
  Kind kind = Kind::kKernel;
  std::string name;  ///< of a kernel: mangled, as CUPTI has it; else `memcpy HtoD` and the like
  std::uint32_t device = 0;
  std::uint32_t stream = 0;  ///< CUPTI's number
  std::uint32_t correlation = 0;
  std::uint64_t graph_node = 0;  ///< 0: not launched by a graph
  std::int64_t begin_ns = 0;     ///< on CUPTI's clock, as end_ns
  std::int64_t end_ns = 0;
  std::int64_t bytes = 0;

  friend bool operator==(const CuptiActivity&, const CuptiActivity&) = default;
};

/// Time that CUPTI itself took.
struct CuptiOverhead {
  std::string name;  ///< e.g. `cupti buffer flush`
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;

  friend bool operator==(const CuptiOverhead&, const CuptiOverhead&) = default;
};

/// Records of CUPTI, as they come, and what they say once they are joined. The outcome does not depend on the
/// order in which records, or the buffers that they lie in, were added. No CUPTI function is called; not for
/// several threads.
///
/// An activity belongs to a WorkId if an external correlation record of the same correlation id carries its
/// pack(). All activities of one graph launch share the launch's correlation id: those whose graph node was
/// named belong to the node's WorkId, in the launch's iteration.
class CuptiRecords {
 public:
  /// Activities without a correlation that are kept for one that may still come; those added first go first.
  static constexpr std::size_t kMaxWaiting = 1 << 16;

  /// Reads one record, of which at most `available_bytes` may be read. It need not be aligned.
  void add(const void* record, std::size_t available_bytes);
  void add_lost(std::int64_t num_records) { counts_.lost += num_records; }
  /// Adds what `other` holds; its nodes too.
  void merge(CuptiRecords&& other);

  /// The graph node was captured for `id`, a pack(). 0: forgets the node.
  void name_node(std::uint64_t node, std::uint64_t id);
  /// The node does what `original` does, if that has a name.
  void clone_node(std::uint64_t node, std::uint64_t original);

  /// Whether what a launch asked for, as pack(), stays here: not all of its records may have come.
  using Keep = std::function<bool(std::uint64_t)>;
  /// Takes out all activities of one rank, ordered by when they began, and forgets its correlations; but for
  /// what `keep` names. Empty: nothing is kept.
  [[nodiscard]] std::vector<CuptiActivity> take(std::int32_t local_rank, const Keep& keep = {});
  /// Takes out all activities of the reserved id, as take() does too.
  [[nodiscard]] std::size_t take_reserved();
  /// Takes out all overheads, ordered by when they began.
  [[nodiscard]] std::vector<CuptiOverhead> take_overheads();
  /// Forgets activities and correlations; waiting ones count as unattributed.
  void forget();

  [[nodiscard]] const CuptiCounts& counts() const { return counts_; }

 private:
  struct External {
    std::uint64_t id = 0;
    bool contradicted = false;  // another record has another id
  };

  void add_activity(CuptiActivity activity, std::uint64_t start, std::uint64_t end);
  void correlate(std::uint32_t correlation, External external);
  void drop_oldest_waiting();
  void forget_reserved();

  std::vector<CuptiActivity> activities_;                       // not joined yet: without their work
  std::unordered_map<std::uint32_t, External> external_;        // by correlation id
  std::unordered_map<std::uint64_t, std::uint64_t> node_work_;  // by graph node id
  std::vector<CuptiOverhead> overheads_;
  CuptiCounts counts_;
};

}  // namespace flex
