#include "cli/run_cache.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/cache_commands.h"
#include "runtime/broadcast_snapshot.h"
#include "runtime/environment.h"
#include "runtime/gather_texts.h"
#include "tuner/stored_calibration.h"

namespace flex::cli {

CacheSnapshot snapshot_for_run(const std::string& path, RankContext& context, const Cluster& cluster,
                               bool required) {
  const Environment environment = environment_of(context, cluster);
  CacheSnapshot mine;
  const bool is_there = !path.empty() && std::filesystem::exists(path);
  if (context.rank() == 0 && (required || is_there)) mine = read_for_command(path).snapshot(environment);
  return broadcast_snapshot_blocking(context, mine);
}

Calibration calibration_for_run(const ClusterOptions& options, TuningCache* cache,
                                const Environment& environment, RankContext& context,
                                const Cluster& cluster) {
  if (!options.calibration.empty()) return options.calibration_of(cluster);
  std::string mine;
  if (context.rank() == 0 && cache != nullptr) {
    const auto stored = stored_calibration(*cache, environment, cluster);
    if (stored) mine = to_json(*stored).dump();
  }
  const std::string shared = gather_texts_blocking(mine, context.control()).front();
  return shared.empty() ? options.calibration_of(cluster)
                        : parse_calibration(shared, "the stored calibration");
}

}  // namespace flex::cli
