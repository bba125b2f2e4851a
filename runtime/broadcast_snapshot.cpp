#include "runtime/broadcast_snapshot.h"

#include <array>
#include <vector>

namespace flex {

CacheSnapshot broadcast_snapshot_blocking(RankContext& context, const CacheSnapshot& snapshot) {
  constexpr int kRoot = 0;
  std::vector<std::byte> bytes;
  if (context.rank() == kRoot) bytes = snapshot.to_bytes();
  const auto own_size = static_cast<std::int64_t>(bytes.size());
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(context.size()));
  context.control().gather_host_blocking({&own_size, 1}, sizes);
  bytes.resize(static_cast<std::size_t>(sizes[kRoot]));
  Stream stream(Device::cpu());  // a snapshot lies in the host's memory, whatever the ranks compute with
  context.control().broadcast(bytes.data(), sizes[kRoot], kRoot, Traffic::kControl, stream);
  stream.synchronize_blocking();
  return CacheSnapshot::from_bytes(bytes);
}

}  // namespace flex
