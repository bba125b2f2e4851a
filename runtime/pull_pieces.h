#pragma once

#include <cstdint>
#include <span>

#include "runtime/collective_call.h"

namespace flex {

/// The copies of `rank`'s part in a collective whose ranks see each other's buffers, by whatever means:
/// `copy(to, from, bytes)`, where `to` may be `from` and bytes may be 0. A reduction copies nothing here.
template <class Copy>
void pull_pieces(std::span<const CollectiveCall> calls, int rank, Copy copy) {
  const CollectiveCall& own = calls[static_cast<std::size_t>(rank)];
  const int size = static_cast<int>(calls.size());
  const auto call_of = [&](int peer) -> const CollectiveCall& {
    return calls[static_cast<std::size_t>(peer)];
  };
  // Each rank starts at its own piece, so that not all read the same memory at once.
  const auto each_peer = [&](auto&& visit) {
    for (int i = 0; i < size; ++i) visit((rank + i) % size);
  };
  switch (own.kind) {
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kRaggedAllToAll:
      return each_peer(
          [&](int peer) { copy(own.place_of(peer), call_of(peer).piece_for(rank), own.bytes_from(peer)); });
    case CollectiveKind::kAllGather:
    case CollectiveKind::kGatherHost:
      return each_peer([&](int peer) { copy(own.place_of(peer), call_of(peer).send, own.bytes); });
    case CollectiveKind::kBroadcast:
      return copy(own.recv, call_of(own.root).recv, own.bytes);
    case CollectiveKind::kReduceScatter:
    case CollectiveKind::kAllReduce:
    case CollectiveKind::kSplit:
      return;
  }
}

}  // namespace flex
