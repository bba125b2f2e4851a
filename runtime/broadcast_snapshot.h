#pragma once

#include "runtime/rank_context.h"
#include "tuner/cache_snapshot.h"

namespace flex {

/// Rank 0's snapshot, on every rank: in a job rank 0 alone opens the cache. What other ranks pass does not
/// matter. Collective. @throws CommError, and CacheError if what arrives is not a snapshot.
[[nodiscard]] CacheSnapshot broadcast_snapshot_blocking(RankContext& context, const CacheSnapshot& snapshot);

}  // namespace flex
