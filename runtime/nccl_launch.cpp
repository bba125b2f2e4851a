#include "runtime/nccl_launch.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/require.h"

namespace flex {
namespace {

/// A launcher ends all processes when the first one fails; so long they have to say why.
constexpr std::chrono::milliseconds kEchoGrace{1000};
constexpr int kFailed = 1;
constexpr int kBadInput = 2;

using MakeWorld = std::function<std::unique_ptr<Communicator>()>;

[[noreturn]] void end(int rank, Communicator* world, const char* message, int status) {
  fmt::print(stderr, "flexmoe: rank {}: {}\n", rank, message);
  std::fflush(stderr);
  std::fflush(stdout);
  if (world != nullptr) world->abort(fmt::format("rank {} failed: {}", rank, message));
  std::this_thread::sleep_for(kEchoGrace);
  std::_Exit(status);
}

void run(int rank, const MakeWorld& make_world, const std::function<void(Communicator&)>& body) {
  std::unique_ptr<Communicator> world;
  try {
    world = make_world();
    body(*world);
    world.reset();
  } catch (const InputError& error) {
    end(rank, world.get(), error.what(), kBadInput);
  } catch (const std::exception& error) {
    end(rank, world.get(), error.what(), kFailed);
  } catch (...) {
    end(rank, world.get(), "an exception that is not a std::exception", kFailed);
  }
}

}  // namespace

Device device_of_local_rank(int local_rank) {
  const int count = num_cuda_devices();
  require<DeviceError>(count > 0, "NCCL needs a GPU for each rank, and this machine has none");
  require<DeviceError>(
      local_rank < count || count == 1,
      "rank {} of this node finds no GPU of its own: there are {}; start as many ranks as GPUs", local_rank,
      count);
  return Device::cuda(local_rank % count);
}

void run_nccl_rank(const LaunchEnvironment& environment, const NcclOptions& options,
                   const std::function<void(Communicator&)>& body) {
  run(
      environment.rank, [&] { return make_nccl_world(environment, options); }, body);
}

#ifdef FLEX_HAS_MPI
void run_nccl_rank(const MpiSession& session, const NcclOptions& options,
                   const std::function<void(Communicator&)>& body) {
  run(
      session.rank(), [&] { return make_nccl_world(session, options); }, body);
}
#endif

}  // namespace flex
