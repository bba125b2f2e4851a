#include "runtime/local_communicator.h"

#include <algorithm>
#include <functional>

#include "runtime/launch.h"
#include "tests/runtime/contract_suite.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

struct InProcessWorlds {
  static void run(Topology topology, Milliseconds deadline, const std::function<void(Communicator&)>& body) {
    run_ranks(topology, deadline, body);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(InProcess, CommunicatorContract, InProcessWorlds);

TEST(HierarchicalAllToAll, EqualsLinearForEveryWorldAndNodeSize) {
  for (int n = 1; n <= 12; ++n) {
    for (int m = 1; m <= n; ++m) {
      if (n % m == 0) check_hierarchical<InProcessWorlds>(n, m);
    }
  }
}

TEST(HierarchicalAllToAll, ReadsSharedChunksInTheFirstStep) {
  run_ranks({6, 3}, kPatient, [](Communicator& world) {
    // Groups of 3 ranks share one chunk.
    constexpr std::int64_t kCount = 2;
    NodeGroups groups(world);
    auto send = pieces(world.rank(), 2, kCount);
    std::vector<double> recv(6 * kCount, kPoison);
    std::vector<double> scratch(6 * kCount, kPoison);
    Stream stream(Device::cpu());
    hierarchical_2d_all_to_all(groups,
                               {.send = {send.data(), DType::kF64, {2 * kCount}},
                                .recv = {recv.data(), DType::kF64, {6 * kCount}},
                                .scratch = {scratch.data(), DType::kF64, {6 * kCount}},
                                .chunk_bytes = bytes_of(kCount),
                                .group = 3,
                                .parts = 1},
                               stream);
    stream.synchronize_blocking();
    EXPECT_EQ(recv, exchanged(world.rank() / 3, 6, kCount));
  });
}

TEST(HierarchicalAllToAll, RefusesNodesThatDoNotDivideTheWorldAndViewsThatAreTooSmall) {
  run_ranks({4, 3}, kPatient, [](Communicator& world) {
    EXPECT_EQ(input_error_of([&] { NodeGroups groups(world); }),
              "2D hierarchical all-to-all: nodes of 3 ranks do not divide a world of 4");
  });
  run_ranks({2, 8}, kPatient, [](Communicator& world) {
    NodeGroups groups(world);  // a world smaller than a node is one node
    EXPECT_EQ(groups.num_nodes(), 1);
    std::vector<double> data(2);
    Stream stream(Device::cpu());
    const TensorView view(data.data(), DType::kF64, {2});
    EXPECT_EQ(input_error_of([&] {
                hierarchical_node_all_to_all(groups, {.from = view, .to = view, .chunk_bytes = 16}, stream);
              }),
              "hierarchical_node_all_to_all: from has 16 bytes and to 16, expected 32 in each");
    EXPECT_EQ(
        input_error_of([&] {
          const auto reversed = world.split(0, -world.rank());
          NodeGroups wrong(*reversed);
        }),
        "2D hierarchical all-to-all: rank 0 of the group is rank 1 of the world; it needs the world's order");
  });
}

TEST(LocalCommunicator, AllocatesNothingOnceWarm) {
  run_ranks({4, 2}, kPatient, [](Communicator& world) {
    const auto node = world.split(world.rank() / 2, 0);
    Stream streams[2] = {Stream(Device::cpu()), Stream(Device::cpu())};
    std::vector<double> send(64, 1.0);
    std::vector<double> recv(64);
    const std::vector<std::int64_t> sizes(4, 8);
    const std::vector<std::int64_t> offsets = {0, 8, 16, 24};
    std::vector<std::int64_t> all(4);
    const std::int64_t mine = world.rank();
    const auto round = [&] {
      for (Stream& stream : streams) {
        world.all_to_all({.send = send.data(), .recv = recv.data(), .bytes_per_peer = 64}, stream);
        world.ragged_all_to_all({.send = send.data(),
                                 .send_bytes = sizes,
                                 .send_offset_bytes = offsets,
                                 .recv = recv.data(),
                                 .recv_bytes = sizes,
                                 .recv_offset_bytes = offsets},
                                stream);
        node->all_gather(send.data(), recv.data(), 64, Traffic::kWeights, stream);
        world.reduce_scatter(send.data(), recv.data(), 8, DType::kF64, Traffic::kGradients, stream);
        world.all_reduce(recv.data(), 16, DType::kF32, ReduceOp::kSum, Traffic::kGate, stream);
        world.broadcast(recv.data(), 64, 1, Traffic::kOther, stream);
        // The streams write the same memory; one after the other keeps that in order.
        stream.synchronize_blocking();
        world.gather_host_blocking({&mine, 1}, all);
      }
    };
    for (int i = 0; i < 5; ++i) round();
    meet(world);
    world.gather_host_blocking({&mine, 1}, all);
    const std::int64_t before = num_allocations();
    world.gather_host_blocking({&mine, 1}, all);  // nobody goes on before all have read the number
    for (int i = 0; i < 20; ++i) round();
    world.gather_host_blocking({&mine, 1}, all);
    const std::int64_t after = num_allocations();
    world.gather_host_blocking({&mine, 1}, all);
    EXPECT_EQ(after - before, 0);
  });
}

TEST(LocalCommunicator, DescribesItself) {
  run_ranks({3, 1}, kPatient, [](Communicator& world) {
    EXPECT_EQ(world.description(), "in-process, 3 ranks");
    EXPECT_EQ(world.transport(), "in-process");
    EXPECT_EQ(world.deadline(), kPatient);
    EXPECT_EQ(world.counters().topology().world, 3);
  });
}

TEST(LocalCommunicator, RefusesAWorldThatCannotBe) {
  EXPECT_EQ(input_error_of([] {
              static_cast<void>(make_local_world({0, 1}, kPatient));
            }),
            "a world of 0 ranks; it has at least 1");
  EXPECT_EQ(input_error_of([] {
              static_cast<void>(make_local_world({2, 0}, kPatient));
            }),
            "topology of 2 ranks, 0 in a node; both are at least 1");
  EXPECT_EQ(input_error_of([] {
              static_cast<void>(make_local_world({2, 1}, Milliseconds(0)));
            }),
            "a deadline of 0 ms; it is at least 1 ms");
}

TEST(LocalCommunicator, MayBeDestroyedWhileItsWorkIsQueued) {
  Stream streams[2] = {Stream(Device::cpu()), Stream(Device::cpu())};
  double values[2] = {1.0, 2.0};
  {
    auto world = make_local_world({2, 2}, kPatient);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      streams[rank].enqueue([] { std::this_thread::sleep_for(Milliseconds(20)); });
      world[rank]->all_reduce(&values[rank], 1, DType::kF64, ReduceOp::kSum, Traffic::kOther, streams[rank]);
    }
  }
  for (Stream& stream : streams) stream.synchronize_blocking();
  EXPECT_EQ(values[0], 3.0);
  EXPECT_EQ(values[1], 3.0);
}

TEST(LocalCommunicator, ALateHostIsNamedAlthoughItsOtherStreamWaits) {
  // Rank 0 sleeps before it calls `b`; its stream already waits in `a` for rank 1, whose stream reaches `a`
  // only after `b`.
  run_ranks({2, 2}, kShort, [](Communicator& world) {
    const auto a = world.split(0, 0);
    const auto b = world.split(0, 0);
    double values[2] = {1.0, 1.0};
    Stream stream(Device::cpu());
    Stream other(Device::cpu());
    const auto reduce = [&](Communicator& group, Traffic traffic, double* value, Stream& on) {
      group.all_reduce(value, 1, DType::kF64, ReduceOp::kSum, traffic, on);
    };
    const std::string failure = failure_of([&] {
      if (world.rank() == 0) {
        reduce(*a, Traffic::kWeights, &values[0], stream);
        std::this_thread::sleep_for(kShort + kSlack);
        reduce(*b, Traffic::kGate, &values[1], other);
      } else {
        reduce(*b, Traffic::kGate, &values[1], stream);
        reduce(*a, Traffic::kWeights, &values[0], stream);
      }
      stream.synchronize_blocking();
      other.synchronize_blocking();
    });
    EXPECT_THAT(failure, HasSubstr("all_reduce (gate) in group {0,1}: rank 0 did not arrive"));
    EXPECT_EQ(failure_of([&] { other.synchronize_blocking(); }).empty(), false);
  });
}

}  // namespace
}  // namespace flex::testing
