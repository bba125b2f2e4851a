#include "runtime/all_to_all.h"

#include <algorithm>
#include <string_view>

#include "base/require.h"
#include "kernels/moe/permute_chunks.h"

namespace flex {
namespace {

void exchange(Communicator& group, std::int64_t chunks_per_peer, std::string_view step,
              const ExchangeStepArgs& args, Stream& stream) {
  const std::int64_t bytes_per_peer = chunks_per_peer * args.chunk_bytes;
  const std::int64_t bytes = bytes_per_peer * group.size();
  require(args.chunk_bytes >= 0, "{}: chunks of {} bytes", step, args.chunk_bytes);
  require(args.from.bytes() >= bytes && args.to.bytes() >= bytes,
          "{}: from has {} bytes and to {}, expected {} in each", step, args.from.bytes(), args.to.bytes(),
          bytes);
  require(args.from.contiguous() && args.to.contiguous(), "{}: from and to must be contiguous", step);
  require(args.from.device == stream.device() && args.to.device == stream.device(),
          "{}: from lies on {} and to on {}, the stream runs on {}", step, to_string(args.from.device),
          to_string(args.to.device), to_string(stream.device()));
  group.all_to_all({.send = args.from.data,
                    .recv = args.to.data,
                    .bytes_per_peer = bytes_per_peer,
                    .traffic = args.traffic},
                   stream);
}

}  // namespace

NodeGroups::NodeGroups(Communicator& world) {
  const Topology& topology = world.counters().topology();
  const int ranks_per_node = std::min(topology.ranks_per_node, topology.world);
  require(world.size() == topology.world, "2D hierarchical all-to-all: a group of {} ranks of a world of {}",
          world.size(), topology.world);
  for (int rank = 0; rank < world.size(); ++rank) {
    require(world.world_ranks()[static_cast<std::size_t>(rank)] == rank,
            "2D hierarchical all-to-all: rank {} of the group is rank {} of the world; it needs the world's "
            "order",
            rank, world.world_ranks()[static_cast<std::size_t>(rank)]);
  }
  require(topology.world % ranks_per_node == 0,
          "2D hierarchical all-to-all: nodes of {} ranks do not divide a world of {}", ranks_per_node,
          topology.world);
  node_ = world.split(world.rank() / ranks_per_node, world.rank());
  rail_ = world.split(world.rank() % ranks_per_node, world.rank());
}

void hierarchical_node_copy(const NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream) {
  strided_chunk_copy({.from = args.from,
                      .to = args.to,
                      .rows = groups.ranks_per_node(),
                      .cols = groups.num_nodes(),
                      .chunk_bytes = args.chunk_bytes,
                      .group = args.group,
                      .parts = args.parts},
                     stream);
}

void hierarchical_node_all_to_all(NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream) {
  exchange(groups.node(), groups.num_nodes(), "hierarchical_node_all_to_all", args, stream);
}

void hierarchical_rail_copy(const NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream) {
  strided_chunk_copy({.from = args.from,
                      .to = args.to,
                      .rows = groups.num_nodes(),
                      .cols = groups.ranks_per_node(),
                      .chunk_bytes = args.chunk_bytes},
                     stream);
}

void hierarchical_rail_all_to_all(NodeGroups& groups, const ExchangeStepArgs& args, Stream& stream) {
  exchange(groups.rail(), groups.ranks_per_node(), "hierarchical_rail_all_to_all", args, stream);
}

void hierarchical_2d_all_to_all(NodeGroups& groups, const HierarchicalAllToAllArgs& args, Stream& stream) {
  const auto step = [&](ConstTensorView from, TensorView to, Traffic traffic) {
    return ExchangeStepArgs{.from = from, .to = to, .chunk_bytes = args.chunk_bytes, .traffic = traffic};
  };
  ExchangeStepArgs first = step(args.send, args.scratch, args.node_traffic);
  first.group = args.group;
  first.parts = args.parts;
  hierarchical_node_copy(groups, first, stream);
  hierarchical_node_all_to_all(groups, step(args.scratch, args.recv, args.node_traffic), stream);
  hierarchical_rail_copy(groups, step(args.recv, args.scratch, args.node_traffic), stream);
  hierarchical_rail_all_to_all(groups, step(args.scratch, args.recv, args.rail_traffic), stream);
}

}  // namespace flex
