#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/control_member.h"
#include "runtime/tcp_socket.h"
#include "tests/runtime/contract_suite.h"

/// The contract over the control channel, each rank in a thread with a connection of its own.
namespace flex::testing {
namespace {

struct ControlWorlds {
  static void run(Topology topology, Milliseconds deadline, const std::function<void(Communicator&)>& body) {
    FileDescriptor listener = listen_at("127.0.0.1", 0);
    const JoinOptions options{.world = topology.world,
                              .job = "contract",
                              .host = "127.0.0.1",
                              .port = listening_port(listener),
                              .deadline = deadline};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto run_rank = [&](int rank) {
      try {
        JoinOptions own = options;
        own.rank = rank;
        const auto world = make_control_world(own, topology.ranks_per_node,
                                              rank == 0 ? std::move(listener) : FileDescriptor());
        try {
          body(*world);
        } catch (const std::exception& error) {
          world->abort(error.what());
          throw;
        }
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (failure == nullptr) failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int rank = 0; rank < topology.world; ++rank) threads.emplace_back(run_rank, rank);
    }
    if (failure != nullptr) std::rethrow_exception(failure);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Control, CommunicatorContract, ControlWorlds);

TEST(ControlCommunicator, DescribesItself) {
  ControlWorlds::run({2, 2}, kPatient, [](Communicator& world) {
    EXPECT_EQ(world.description(), "control channel, 2 ranks");
    EXPECT_EQ(world.transport(), "control channel");
    EXPECT_EQ(world.deadline(), kPatient);
  });
}

TEST(ControlCommunicator, RefusesTensors) {
  ControlWorlds::run({2, 2}, kPatient, [](Communicator& world) {
    const std::vector<char> send(std::size_t{65} << 20);
    std::vector<char> recv(2 * send.size());
    EXPECT_EQ(
        failure_of([&] {
          Stream stream(Device::cpu());
          world.all_gather(send.data(), recv.data(), std::ssize(send), Traffic::kOther, stream);
          stream.synchronize_blocking();
        }),
        "the control channel carries messages of up to 67108864 bytes, this one has 68157565; move tensors "
        "on CUDA streams");
  });
}

TEST(ControlCommunicator, ARankThatHasLeftIsNamed) {
  ControlWorlds::run({3, 3}, kPatient, [](Communicator& world) {
    meet(world);
    if (world.rank() == 1) return;
    EXPECT_EQ(failure_of([&] { meet(world); }),
              "all_reduce (gate) in group {0,1,2}: rank 1 has left the job");
  });
}

}  // namespace
}  // namespace flex::testing
