#include "runtime/communicator.h"

#include "base/require.h"

namespace flex {

TrafficCounters::TrafficCounters(Topology topology, int world_rank)
    : topology_(topology), world_rank_(world_rank) {
  require(topology.world > 0 && topology.ranks_per_node > 0,
          "topology of {} ranks, {} in a node; both are at least 1", topology.world, topology.ranks_per_node);
  require(world_rank >= 0 && world_rank < topology.world, "rank {} of a world of {}", world_rank,
          topology.world);
  cells_ =
      std::vector<Cell>(static_cast<std::size_t>(kNumTraffic) * static_cast<std::size_t>(topology.world));
}

TrafficCounters::Cell& TrafficCounters::cell(Traffic traffic, int peer) {
  return cells_[static_cast<std::size_t>(traffic) * static_cast<std::size_t>(topology_.world) +
                static_cast<std::size_t>(peer)];
}

const TrafficCounters::Cell& TrafficCounters::cell(Traffic traffic, int peer) const {
  return cells_[static_cast<std::size_t>(traffic) * static_cast<std::size_t>(topology_.world) +
                static_cast<std::size_t>(peer)];
}

void TrafficCounters::add(Traffic traffic, int peer, std::int64_t bytes) {
  if (bytes == 0) return;
  cell(traffic, peer).bytes.fetch_add(bytes, std::memory_order_relaxed);
  cell(traffic, peer).messages.fetch_add(1, std::memory_order_relaxed);
}

void TrafficCounters::reset() {
  for (Cell& each : cells_) {
    each.bytes.store(0, std::memory_order_relaxed);
    each.messages.store(0, std::memory_order_relaxed);
  }
}

std::int64_t TrafficCounters::bytes(Traffic traffic, int peer) const {
  return cell(traffic, peer).bytes.load(std::memory_order_relaxed);
}

std::int64_t TrafficCounters::bytes(Traffic traffic) const {
  std::int64_t sum = 0;
  for (int peer = 0; peer < topology_.world; ++peer) sum += bytes(traffic, peer);
  return sum;
}

std::int64_t TrafficCounters::bytes(Traffic traffic, LinkClass link) const {
  std::int64_t sum = 0;
  for (int peer = 0; peer < topology_.world; ++peer) {
    if (topology_.link(world_rank_, peer) == link) sum += bytes(traffic, peer);
  }
  return sum;
}

std::int64_t TrafficCounters::messages(Traffic traffic, int peer) const {
  return cell(traffic, peer).messages.load(std::memory_order_relaxed);
}

}  // namespace flex
