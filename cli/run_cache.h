#pragma once

#include <string>

#include "cli/cluster_options.h"
#include "costmodel/cluster.h"
#include "costmodel/cost_parameters.h"
#include "runtime/rank_context.h"
#include "tuner/cache.h"
#include "tuner/cache_snapshot.h"

namespace flex::cli {

/// What a tuning cache knows of the running job, on every rank: rank 0 alone opens the file. Collective.
/// @param cluster a description of the job, see local_cluster()
/// @param required whether a file that is not there is an error; otherwise it is an empty snapshot
/// @throws InputError on rank 0, which ends the others.
[[nodiscard]] CacheSnapshot snapshot_for_run(const std::string& path, RankContext& context,
                                             const Cluster& cluster, bool required);

/// The parameters that a command on real ranks predicts with: of `file`, if one is named; otherwise what the
/// samples of `cache` say of this environment (flexmoe profile), if it has any; otherwise `cluster`'s
/// built-in ones. `cache`: rank 0's, or null. Collective, and equal on all ranks.
[[nodiscard]] Calibration calibration_for_run(const ClusterOptions& options, TuningCache* cache,
                                              const Environment& environment, RankContext& context,
                                              const Cluster& cluster);

}  // namespace flex::cli
