#pragma once

#include <memory>
#include <random>

#include "runtime/all_to_all.h"
#include "tests/runtime/communicator_contract.h"

/// Groups, counters, and several streams at once.
namespace flex::testing {

[[nodiscard]] inline std::vector<int> members(const Communicator& group) {
  return {group.world_ranks().begin(), group.world_ranks().end()};
}

TYPED_TEST_P(CommunicatorContract, SplitOrdersByKeyAndNests) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    const int rank = world.rank();
    const auto parity = world.split(rank % 2 == 0 ? -7 : 5, -rank);  // the larger rank first
    EXPECT_EQ(members(*parity), rank % 2 == 0 ? (std::vector<int>{2, 0}) : (std::vector<int>{3, 1}));
    EXPECT_EQ(parity->world_ranks()[static_cast<std::size_t>(parity->rank())], rank);
    meet(*parity);

    const auto alone = parity->split(parity->rank(), 0);
    EXPECT_EQ(members(*alone), std::vector<int>{rank});
    meet(*alone);

    const auto same_key = world.split(0, 1);  // ties go by rank
    EXPECT_EQ(members(*same_key), (std::vector<int>{0, 1, 2, 3}));
    const auto three = world.split(rank == 1 ? 1 : 0, 0);
    EXPECT_EQ(members(*three), rank == 1 ? (std::vector<int>{1}) : (std::vector<int>{0, 2, 3}));
    meet(*three);
    const auto reversed = three->split(0, -three->rank());
    EXPECT_EQ(members(*reversed), rank == 1 ? (std::vector<int>{1}) : (std::vector<int>{3, 2, 0}));

    Stream stream(Device::cpu());
    const auto count = std::int64_t{4};
    const auto send = pieces(reversed->rank(), reversed->size(), count);
    std::vector<double> recv(send.size(), kPoison);
    reversed->all_to_all({.send = send.data(), .recv = recv.data(), .bytes_per_peer = bytes_of(count)},
                         stream);
    stream.synchronize_blocking();
    EXPECT_EQ(recv, exchanged(reversed->rank(), reversed->size(), count));
    meet(world);
  });
}

TYPED_TEST_P(CommunicatorContract, GroupsOutliveTheirParents) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    std::unique_ptr<Communicator> child;
    {
      const auto parent = world.split(0, world.rank());
      child = parent->split(world.rank() / 2, 0);
    }
    meet(*child);
  });
}

/// Bytes of `traffic` by peer.
[[nodiscard]] inline std::vector<std::int64_t> counted(Communicator& group, Traffic traffic) {
  std::vector<std::int64_t> bytes;
  for (int peer = 0; peer < group.counters().topology().world; ++peer) {
    bytes.push_back(group.counters().bytes(traffic, peer));
  }
  return bytes;
}

TYPED_TEST_P(CommunicatorContract, CountersAreExactToTheByte) {
  using Bytes = std::vector<std::int64_t>;
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    const int rank = world.rank();
    Stream stream(Device::cpu());
    std::vector<char> send(4096, 's');
    std::vector<char> recv(4096, 'r');
    world.all_to_all(
        {.send = send.data(), .recv = recv.data(), .bytes_per_peer = 24, .traffic = Traffic::kDispatch},
        stream);
    world.all_gather(send.data(), recv.data(), 10, Traffic::kWeights, stream);
    world.reduce_scatter(send.data(), recv.data(), 3, DType::kF64, Traffic::kGradients, stream);
    world.all_reduce(recv.data(), 5, DType::kF32, ReduceOp::kMax, Traffic::kGate, stream);
    world.broadcast(recv.data(), 7, 2, Traffic::kOther, stream);
    const std::vector<std::int64_t> sizes = {0, 1, 0,
                                             2};  // the same on every rank: p gets sizes[p] from each
    const std::vector<std::int64_t> recv_sizes(4, sizes[static_cast<std::size_t>(rank)]);
    const std::vector<std::int64_t> offsets = {0, 100, 200, 300};
    world.ragged_all_to_all({.send = send.data(),
                             .send_bytes = sizes,
                             .send_offset_bytes = offsets,
                             .recv = recv.data(),
                             .recv_bytes = recv_sizes,
                             .recv_offset_bytes = offsets,
                             .traffic = Traffic::kCombine},
                            stream);
    stream.synchronize_blocking();
    EXPECT_EQ(counted(world, Traffic::kDispatch), (Bytes{24, 24, 24, 24}));
    EXPECT_EQ(counted(world, Traffic::kWeights), (Bytes{10, 10, 10, 10}));
    EXPECT_EQ(counted(world, Traffic::kGradients), (Bytes{24, 24, 24, 24}));
    Bytes own(4, 0);
    own[static_cast<std::size_t>(rank)] = 20;
    EXPECT_EQ(counted(world, Traffic::kGate), own);
    EXPECT_EQ(counted(world, Traffic::kOther), rank == 2 ? (Bytes{0, 0, 0, 0}) : (Bytes{0, 0, 7, 0}));
    EXPECT_EQ(counted(world, Traffic::kCombine), (Bytes{0, 1, 0, 2}));
    EXPECT_EQ(world.counters().messages(Traffic::kCombine, 0), 0);
    EXPECT_EQ(world.counters().messages(Traffic::kCombine, 3), 1);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch), 96);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, LinkClass::kSelf), 24);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, LinkClass::kIntraNode), 24);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, LinkClass::kInterNode), 48);
    EXPECT_EQ(world.counters().bytes(Traffic::kControl), 0);

    // Groups count in their world's counters, by world rank; splitting counts nothing.
    const auto pair = world.split(rank % 2, 0);
    EXPECT_EQ(world.counters().bytes(Traffic::kControl), 0);
    const std::vector<std::int64_t> mine = {1, 2, 3};
    std::vector<std::int64_t> all(6);
    pair->gather_host_blocking(mine, all);
    EXPECT_EQ(&pair->counters(), &world.counters());
    EXPECT_EQ(counted(world, Traffic::kControl),
              rank % 2 == 0 ? (Bytes{24, 0, 24, 0}) : (Bytes{0, 24, 0, 24}));
    world.counters().reset();
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch), 0);
    EXPECT_EQ(world.counters().messages(Traffic::kDispatch, 1), 0);
  });
}

TYPED_TEST_P(CommunicatorContract, CallsMatchByOrderOfTheCallsWhateverRunsFirst) {
  // Two streams of one communicator. On odd ranks the stream of the first call lags behind, on even ranks the
  // other.
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    constexpr std::size_t kRounds = 20;
    Stream first(Device::cpu());
    Stream second(Device::cpu());
    const auto lag = [] { std::this_thread::sleep_for(Milliseconds(30)); };
    (world.rank() % 2 == 1 ? first : second).enqueue(lag);
    std::vector<std::vector<double>> results(2 * kRounds, std::vector<double>(4, kPoison));
    std::vector<std::vector<double>> sent;
    for (std::size_t round = 0; round < 2 * kRounds; ++round) {
      std::vector<double>& row = sent.emplace_back();
      for (int to = 0; to < 4; ++to)
        row.push_back(content(world.rank(), to, static_cast<std::int64_t>(round)));
    }
    for (std::size_t round = 0; round < 2 * kRounds; ++round) {
      world.all_to_all(
          {.send = sent[round].data(), .recv = results[round].data(), .bytes_per_peer = bytes_of(1)},
          round % 2 == 0 ? first : second);
    }
    meet(world);  // a third stream, while the others are busy
    first.synchronize_blocking();
    second.synchronize_blocking();
    for (std::size_t round = 0; round < 2 * kRounds; ++round) {
      std::vector<double> expected;
      for (int from = 0; from < 4; ++from) {
        expected.push_back(content(from, world.rank(), static_cast<std::int64_t>(round)));
      }
      EXPECT_EQ(results[round], expected);
    }
  });
}

TYPED_TEST_P(CommunicatorContract, RandomCallsWithDelaysComeOutRight) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    std::mt19937 calls(2024);  // the same on all ranks
    std::mt19937 delays(7000U + static_cast<unsigned>(world.rank()));
    const auto node = world.split(world.rank() / 2, 0);
    const auto rail = world.split(world.rank() % 2, 0);
    const std::vector<Communicator*> groups = {&world, node.get(), rail.get()};
    std::vector<Stream> streams;
    for (int i = 0; i < 2; ++i) streams.emplace_back(Device::cpu());
    struct Exchange {
      Communicator* group;
      std::int64_t count;
      std::vector<double> send, recv;
    };
    std::vector<std::unique_ptr<Exchange>> exchanges;
    for (int i = 0; i < 150; ++i) {
      Communicator& group = *groups[calls() % 3];
      Stream& stream = streams[calls() % 2];
      if (delays() % 4 == 0) {
        stream.enqueue(
            [us = delays() % 1500] { std::this_thread::sleep_for(std::chrono::microseconds(us)); });
      }
      if (delays() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(delays() % 1500));
      const auto count = static_cast<std::int64_t>(calls() % 300);
      auto exchange = std::make_unique<Exchange>(
          Exchange{&group, count, pieces(group.rank(), group.size(), count), std::vector<double>()});
      exchange->recv.assign(exchange->send.size(), kPoison);
      group.all_to_all(
          {.send = exchange->send.data(), .recv = exchange->recv.data(), .bytes_per_peer = bytes_of(count)},
          stream);
      exchanges.push_back(std::move(exchange));
      if (calls() % 10 == 0) {
        std::vector<std::int64_t> all(static_cast<std::size_t>(group.size()));
        group.gather_host_blocking(std::vector<std::int64_t>{i}, all);
        EXPECT_EQ(all, std::vector<std::int64_t>(all.size(), i));
      }
    }
    for (Stream& stream : streams) stream.synchronize_blocking();
    for (const auto& each : exchanges) {
      ASSERT_EQ(each->recv, exchanged(each->group->rank(), each->group->size(), each->count));
    }
  });
}

/// The 2D hierarchical exchange of n ranks in nodes of m gives what the linear one gives, and counts its
/// bytes.
template <class Worlds>
void check_hierarchical(int n, int m) {
  Worlds::run({n, m}, kPatient, [n, m](Communicator& world) {
    constexpr std::int64_t kCount = 3;
    NodeGroups groups(world);
    ASSERT_EQ(groups.ranks_per_node(), m);
    ASSERT_EQ(groups.num_nodes(), n / m);
    auto send = pieces(world.rank(), n, kCount);
    std::vector<double> recv(send.size(), kPoison);
    std::vector<double> scratch(send.size(), kPoison);
    const Shape shape = {n * kCount};
    world.counters().reset();
    Stream stream(Device::cpu());
    hierarchical_2d_all_to_all(groups,
                               {.send = {send.data(), DType::kF64, shape},
                                .recv = {recv.data(), DType::kF64, shape},
                                .scratch = {scratch.data(), DType::kF64, shape},
                                .chunk_bytes = bytes_of(kCount),
                                .node_traffic = Traffic::kDispatchIntra,
                                .rail_traffic = Traffic::kDispatch},
                               stream);
    stream.synchronize_blocking();
    EXPECT_EQ(recv, exchanged(world.rank(), n, kCount)) << n << " ranks in nodes of " << m;
    EXPECT_EQ(send, pieces(world.rank(), n, kCount)) << "the send buffer must stay";

    // Phase 1: n/m chunks to each of the m ranks of the node. Phase 2: m chunks to each of the n/m ranks of
    // the rail.
    const Topology& topology = world.counters().topology();
    for (int peer = 0; peer < n; ++peer) {
      const bool in_node = peer / m == world.rank() / m;
      const bool in_rail = peer % m == world.rank() % m;
      EXPECT_EQ(world.counters().bytes(Traffic::kDispatchIntra, peer),
                in_node ? bytes_of(kCount) * (n / m) : 0);
      EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, peer), in_rail ? bytes_of(kCount) * m : 0);
      EXPECT_EQ(world.counters().messages(Traffic::kDispatch, peer), in_rail ? 1 : 0);
      if (in_rail && peer != world.rank()) {
        EXPECT_EQ(topology.link(world.rank(), peer), LinkClass::kInterNode);
      }
    }
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatchIntra, LinkClass::kInterNode), 0);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, LinkClass::kIntraNode), 0);
  });
}

TYPED_TEST_P(CommunicatorContract, HierarchicalAllToAllEqualsLinear) {
  for (const int m : {1, 2, 4}) check_hierarchical<TypeParam>(4, m);
}

}  // namespace flex::testing
