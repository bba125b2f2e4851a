#include "runtime/rank_context.h"

#include <exception>

#include "base/require.h"

namespace flex {

RankContext::RankContext(Communicator& world, Device device, const GemmOptions& gemm)
    : world_(world),
      device_(device),
      cluster_(cluster_of(world.counters().topology())),
      exceptions_at_start_(std::uncaught_exceptions()),
      data_(world.split(0, world.rank())),
      control_(world.split(0, world.rank())),
      node_groups_(std::make_unique<NodeGroups>(world)),
      gemm_(device.is_cuda() ? std::make_unique<GemmAlgorithms>(device, gemm) : nullptr),
      executor_(std::make_unique<Executor>(device)) {}

RankContext::~RankContext() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    world_.abort(fmt::format("rank {} failed", world_.rank()));
  }
}

void RankContext::prepare_weight_groups(std::int64_t shards) {
  for (std::int64_t group = 2; group <= shards && group < size(); ++group) {
    if (shards % group != 0) continue;
    bool exists = false;
    for (const auto& made : weight_groups_) exists = exists || made->size() == group;
    if (!exists) weight_groups_.push_back(world_.split(static_cast<int>(rank() / group), rank()));
  }
}

Communicator& RankContext::weight_group(std::int64_t group) {
  if (group == size()) return *data_;
  for (const auto& made : weight_groups_) {
    if (made->size() == group) return *made;
  }
  fail<CommError>("rank {}: no weight group of {} ranks was prepared", rank(), group);
}

}  // namespace flex
