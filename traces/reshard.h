#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "traces/routing_trace.h"

namespace flex {

/// How the tokens of a trace are laid on another number of ranks. Experts stay as many as they are.
enum class ReshardPolicy : std::uint8_t {
  /// The same tokens: each source rank's are divided among W' / W ranks, or those of W / W' neighbours come
  /// together on one. One of W and W' must divide the other. Counts of each expert over all ranks stay equal.
  kSplit,
  /// More or fewer of the same ranks: rank s' has the tokens of rank s' mod W.
  kTile,
  /// Each rank draws its choices from the mean distribution over the experts, with the seed. As many tokens
  /// as the mean rank has: floor(W' S / W) in all, for S tokens before.
  kResample,
};
/// `split`, `tile`, `resample`.
[[nodiscard]] std::string_view name(ReshardPolicy policy);
[[nodiscard]] std::optional<ReshardPolicy> parse_reshard_policy(std::string_view text);

struct ReshardOptions {
  int world = 1;           ///< W'
  int ranks_per_node = 1;  ///< divides it
  ReshardPolicy policy = ReshardPolicy::kSplit;
  std::uint64_t seed = 0;  ///< of kResample
  std::string file;        ///< where the trace comes from, for the header
};

/// Lays a trace on other ranks, record by record. Plans and durations belong to the old ranks and are left
/// out. A function of its arguments alone, with the same bits on every machine.
class Resharder {
 public:
  /// @throws InputError if the policy cannot reach W', or the experts do not spread over so many ranks.
  Resharder(const TraceHeader& from, const ReshardOptions& options);

  [[nodiscard]] const TraceHeader& header() const { return header_; }
  [[nodiscard]] TraceRecord reshard(const TraceRecord& record) const;

 private:
  [[nodiscard]] SparseCounts split(const SparseCounts& counts, std::int64_t top_k) const;
  [[nodiscard]] SparseCounts join(const SparseCounts& counts) const;
  [[nodiscard]] SparseCounts tile(const SparseCounts& counts) const;
  [[nodiscard]] SparseCounts resample(const TraceRecord& record, std::int64_t top_k) const;

  int old_world_;
  ReshardOptions options_;
  TraceHeader header_;
};

}  // namespace flex
