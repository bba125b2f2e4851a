#include <map>
#include <memory>
#include <utility>

#include "runtime/nccl_communicator.h"
#include "tests/runtime/cuda_ranks.h"

namespace flex::testing {
namespace {

using Key = std::pair<int, int>;  // ranks, ranks per node

/// The worlds of this process. Making one takes about a second, so tests of one topology share it.
std::map<Key, std::unique_ptr<Communicator>>& worlds() {
  static std::map<Key, std::unique_ptr<Communicator>> all;
  return all;
}

/// Ends them while CUDA and the other processes are still there.
class EndOfWorlds : public ::testing::Environment {
  void TearDown() override { worlds().clear(); }
};
const auto* const kEnd = ::testing::AddGlobalTestEnvironment(new EndOfWorlds);

Communicator& world_of(LaunchEnvironment environment, const Topology& topology, Milliseconds deadline) {
  std::unique_ptr<Communicator>& world = worlds()[{topology.world, topology.ranks_per_node}];
  if (world == nullptr) {
    // All processes come here in the same order; each world has a port of its own.
    environment.port += static_cast<int>(worlds().size());
    environment.world = topology.world;
    world = make_nccl_world(
        environment, {.device = kGpu, .ranks_per_node = topology.ranks_per_node, .deadline = deadline});
  }
  return *world;
}

}  // namespace

void run_cuda_ranks(const Topology& topology, Milliseconds deadline,
                    const std::function<void(Communicator&)>& body) {
  static const LaunchEnvironment environment = launch_environment();
  if (topology.world > environment.world) GTEST_SKIP() << "a world of " << topology.world << " ranks";
  if (environment.rank >= topology.world) {
    static_cast<void>(worlds()[{topology.world, topology.ranks_per_node}]);  // keeps the count of ports
    return;
  }
  Communicator& world = world_of(environment, topology, deadline);
  world.counters().reset();
  try {
    body(world);
  } catch (const std::exception& error) {
    world.abort(error.what());
    throw;
  }
}

}  // namespace flex::testing
