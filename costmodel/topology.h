#pragma once

#include <cstdint>

namespace flex {

/// How far a message travels.
enum class LinkClass : std::uint8_t { kSelf, kIntraNode, kInterNode };

/// Which ranks share a node: ranks [n * ranks_per_node, (n + 1) * ranks_per_node) are node n.
struct Topology {
  int world = 1;
  int ranks_per_node = 1;
  [[nodiscard]] LinkClass link(int from, int to) const {
    if (from == to) return LinkClass::kSelf;
    return from / ranks_per_node == to / ranks_per_node ? LinkClass::kIntraNode : LinkClass::kInterNode;
  }
};

}  // namespace flex
