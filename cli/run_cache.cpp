#include "cli/run_cache.h"

#include <filesystem>

#include "cli/cache_commands.h"
#include "runtime/broadcast_snapshot.h"
#include "runtime/environment.h"

namespace flex::cli {

CacheSnapshot snapshot_for_run(const std::string& path, RankContext& context, const Cluster& cluster,
                               bool required) {
  const Environment environment = environment_of(context, cluster);
  CacheSnapshot mine;
  const bool is_there = !path.empty() && std::filesystem::exists(path);
  if (context.rank() == 0 && (required || is_there)) mine = read_for_command(path).snapshot(environment);
  return broadcast_snapshot_blocking(context, mine);
}

}  // namespace flex::cli
