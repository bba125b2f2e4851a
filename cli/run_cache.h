#pragma once

#include <string>

#include "costmodel/cluster.h"
#include "runtime/rank_context.h"
#include "tuner/cache_snapshot.h"

namespace flex::cli {

/// What a tuning cache knows of the running job, on every rank: rank 0 alone opens the file. Collective.
/// @param cluster a description of the job, see local_cluster()
/// @param required whether a file that is not there is an error; otherwise it is an empty snapshot
/// @throws InputError on rank 0, which ends the others.
[[nodiscard]] CacheSnapshot snapshot_for_run(const std::string& path, RankContext& context,
                                             const Cluster& cluster, bool required);

}  // namespace flex::cli
