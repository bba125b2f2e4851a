#pragma once

#include <cmath>
#include <limits>
#include <numeric>

#include "tests/runtime/communicator_contract.h"

/// What each collective does with its data.
namespace flex::testing {

TYPED_TEST_P(CommunicatorContract, AllToAllDeliversEveryPiece) {
  for (const Topology topology : {Topology{4, 2}, Topology{3, 1}}) {
    TypeParam::run(topology, kPatient, [](Communicator& world) {
      Stream stream(Device::cpu());
      for (const std::int64_t count : {0, 1, 1000, 70'000}) {
        const auto send = pieces(world.rank(), world.size(), count);
        std::vector<double> recv(send.size(), kPoison);
        world.all_to_all({.send = send.data(), .recv = recv.data(), .bytes_per_peer = bytes_of(count)},
                         stream);
        stream.synchronize_blocking();
        EXPECT_EQ(recv, exchanged(world.rank(), world.size(), count)) << count;
      }
    });
  }
}

TYPED_TEST_P(CommunicatorContract, AllToAllSendsSharedPiecesToSeveralPeers) {
  // Groups of 4 ranks in 2 parts: ranks 0 and 2 get one piece, 1 and 3 the other.
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    Stream stream(Device::cpu());
    constexpr std::int64_t kCount = 5;
    const auto send = pieces(world.rank(), 2, kCount);
    std::vector<double> recv(4 * kCount, kPoison);
    world.all_to_all({.send = send.data(),
                      .recv = recv.data(),
                      .bytes_per_peer = bytes_of(kCount),
                      .group = 4,
                      .parts = 2},
                     stream);
    stream.synchronize_blocking();
    EXPECT_EQ(recv, exchanged(world.rank() % 2, 4, kCount));
  });
}

/// Elements that rank `from` sends to rank `to` in the ragged exchange below: unequal, some none, all
/// different.
[[nodiscard]] inline std::int64_t ragged_count(int from, int to) {
  return (from + to) % 3 == 0 ? 0 : 100 * from + 10 * to + 1;
}

TYPED_TEST_P(CommunicatorContract, RaggedAllToAllDeliversUnequalPieces) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    constexpr std::int64_t kGap = 3;  // elements between pieces that nobody may touch
    const int rank = world.rank();
    std::vector<std::int64_t> send_bytes, send_offsets, recv_bytes, recv_offsets;
    std::vector<double> send, expected;
    std::int64_t recv_count = 0;
    for (int peer = 0; peer < world.size(); ++peer) {
      send_bytes.push_back(bytes_of(ragged_count(rank, peer)));
      send_offsets.push_back(bytes_of(std::ssize(send)));
      for (std::int64_t i = 0; i < ragged_count(rank, peer); ++i) send.push_back(content(rank, peer, i));
      send.insert(send.end(), kGap, kPoison);
      recv_bytes.push_back(bytes_of(ragged_count(peer, rank)));
      recv_offsets.push_back(bytes_of(recv_count));
      for (std::int64_t i = 0; i < ragged_count(peer, rank); ++i) expected.push_back(content(peer, rank, i));
      expected.insert(expected.end(), kGap, kPoison);
      recv_count = std::ssize(expected);
    }
    std::vector<double> recv(expected.size(), kPoison);
    Stream stream(Device::cpu());
    world.ragged_all_to_all({.send = send.data(),
                             .send_bytes = send_bytes,
                             .send_offset_bytes = send_offsets,
                             .recv = recv.data(),
                             .recv_bytes = recv_bytes,
                             .recv_offset_bytes = recv_offsets},
                            stream);
    stream.synchronize_blocking();
    EXPECT_EQ(recv, expected);
  });
}

TYPED_TEST_P(CommunicatorContract, AllGatherOrdersByRankAlsoInPlace) {
  TypeParam::run({3, 3}, kPatient, [](Communicator& world) {
    Stream stream(Device::cpu());
    for (const std::int64_t count : {0, 1, 777}) {
      std::vector<double> expected;
      for (int rank = 0; rank < 3; ++rank) {
        for (std::int64_t i = 0; i < count; ++i) expected.push_back(content(rank, 0, i));
      }
      std::vector<double> mine;
      for (std::int64_t i = 0; i < count; ++i) mine.push_back(content(world.rank(), 0, i));
      std::vector<double> all(expected.size(), kPoison);
      world.all_gather(mine.data(), all.data(), bytes_of(count), Traffic::kWeights, stream);
      std::vector<double> in_place(expected.size(), kPoison);
      std::copy(mine.begin(), mine.end(), in_place.begin() + world.rank() * count);
      world.all_gather(in_place.data() + world.rank() * count, in_place.data(), bytes_of(count),
                       Traffic::kWeights, stream);
      stream.synchronize_blocking();
      EXPECT_EQ(all, expected);
      EXPECT_EQ(in_place, expected);
    }
  });
}

/// Terms of which every order of summation but rank order gives another result.
template <class T>
[[nodiscard]] T term(int rank, std::int64_t i) {
  const T big = std::is_same_v<T, double> ? T(9007199254740992.0)
                                          : T(16777216.0);  // the first odd number after it is lost
  const T terms[] = {big, T(1), T(1), -big};
  return terms[rank % 4] * T(1 + i % 3);
}
template <class T>
[[nodiscard]] T sum_in_rank_order(int size, std::int64_t i) {
  T sum = term<T>(0, i);
  for (int rank = 1; rank < size; ++rank) sum += term<T>(rank, i);
  return sum;
}

template <class T>
void check_reduce_scatter(Communicator& world, std::int64_t count) {
  Stream stream(Device::cpu());
  std::vector<T> send;
  for (std::int64_t i = 0; i < count * world.size(); ++i) send.push_back(term<T>(world.rank(), i));
  std::vector<T> recv(static_cast<std::size_t>(count), T(kPoison));
  world.reduce_scatter(send.data(), recv.data(), count, kDTypeOf<T>, Traffic::kGradients, stream);
  stream.synchronize_blocking();
  std::vector<T> expected;
  for (std::int64_t i = 0; i < count; ++i) {
    expected.push_back(sum_in_rank_order<T>(world.size(), world.rank() * count + i));
  }
  EXPECT_EQ(recv, expected) << count;
  T* const own_piece = send.data() + world.rank() * count;
  world.reduce_scatter(send.data(), own_piece, count, kDTypeOf<T>, Traffic::kGradients, stream);
  stream.synchronize_blocking();
  EXPECT_EQ(std::vector<T>(own_piece, own_piece + count), expected) << count << " in place";
}

TYPED_TEST_P(CommunicatorContract, ReduceScatterSumsInRankOrder) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    for (const std::int64_t count : {0, 1, 2500}) {
      check_reduce_scatter<double>(world, count);
      check_reduce_scatter<float>(world, count);
    }
  });
}

template <class T>
void check_all_reduce_sum(Communicator& world, std::int64_t count) {
  Stream stream(Device::cpu());
  std::vector<T> data;
  std::vector<T> expected;
  for (std::int64_t i = 0; i < count; ++i) {
    data.push_back(term<T>(world.rank(), i));
    expected.push_back(sum_in_rank_order<T>(world.size(), i));
  }
  world.all_reduce(data.data(), count, kDTypeOf<T>, ReduceOp::kSum, Traffic::kGate, stream);
  stream.synchronize_blocking();
  EXPECT_EQ(data, expected) << count;
}

TYPED_TEST_P(CommunicatorContract, AllReduceSumsInRankOrder) {
  for (const Topology topology : {Topology{4, 4}, Topology{3, 1}}) {
    TypeParam::run(topology, kPatient, [](Communicator& world) {
      for (const std::int64_t count : {0, 1, 3, 5000}) {
        check_all_reduce_sum<double>(world, count);
        check_all_reduce_sum<float>(world, count);
      }
      for (const std::int64_t count : {1, 10}) check_all_reduce_sum<std::int64_t>(world, count);
    });
  }
}

TYPED_TEST_P(CommunicatorContract, AllReduceTakesTheLargestAndPassesNanOn) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    const int rank = world.rank();
    std::vector<float> data = {static_cast<float>(-rank - 1), static_cast<float>(rank),
                               rank == 0 ? kNan : 1.0F, rank == 2 ? kNan : 1.0F};
    std::vector<std::int32_t> counts = {rank == 1 ? 70 : rank, -5};
    Stream stream(Device::cpu());
    world.all_reduce(data.data(), 4, DType::kF32, ReduceOp::kMax, Traffic::kGate, stream);
    world.all_reduce(counts.data(), 2, DType::kI32, ReduceOp::kMax, Traffic::kGate, stream);
    stream.synchronize_blocking();
    EXPECT_EQ(data[0], -1.0F);
    EXPECT_EQ(data[1], 3.0F);
    EXPECT_TRUE(std::isnan(data[2]) && std::isnan(data[3]));
    EXPECT_EQ(counts, (std::vector<std::int32_t>{70, -5}));
  });
}

TYPED_TEST_P(CommunicatorContract, BroadcastFromEachRoot) {
  TypeParam::run({4, 2}, kPatient, [](Communicator& world) {
    Stream stream(Device::cpu());
    for (const std::int64_t count : {0, 1, 999}) {
      for (int root = 0; root < world.size(); ++root) {
        std::vector<double> expected;
        for (std::int64_t i = 0; i < count; ++i) expected.push_back(content(root, root, i));
        std::vector<double> data(expected.size(), kPoison);
        if (world.rank() == root) data = expected;
        world.broadcast(data.data(), bytes_of(count), root, Traffic::kOther, stream);
        stream.synchronize_blocking();
        EXPECT_EQ(data, expected) << count << " from " << root;
      }
    }
  });
}

TYPED_TEST_P(CommunicatorContract, GatherHostOrdersByRank) {
  TypeParam::run({3, 3}, kPatient, [](Communicator& world) {
    const std::vector<std::int64_t> mine = {world.rank(), 100 + world.rank()};
    std::vector<std::int64_t> all(6, -1);
    world.gather_host_blocking(mine, all);
    EXPECT_EQ(all, (std::vector<std::int64_t>{0, 100, 1, 101, 2, 102}));
    world.gather_host_blocking({}, {});
  });
}

TYPED_TEST_P(CommunicatorContract, WorldOfOneRankCopies) {
  TypeParam::run({1, 1}, kPatient, [](Communicator& world) {
    ASSERT_EQ(world.size(), 1);
    Stream stream(Device::cpu());
    const auto send = pieces(0, 1, 9);
    std::vector<double> exchange(9), gather(9), scatter(9);
    auto reduced = send;
    auto broadcast = send;
    world.all_to_all({.send = send.data(), .recv = exchange.data(), .bytes_per_peer = bytes_of(9)}, stream);
    world.all_gather(send.data(), gather.data(), bytes_of(9), Traffic::kOther, stream);
    world.reduce_scatter(send.data(), scatter.data(), 9, DType::kF64, Traffic::kOther, stream);
    world.all_reduce(reduced.data(), 9, DType::kF64, ReduceOp::kSum, Traffic::kOther, stream);
    world.broadcast(broadcast.data(), bytes_of(9), 0, Traffic::kOther, stream);
    stream.synchronize_blocking();
    for (const auto& result : {exchange, gather, scatter, reduced, broadcast}) EXPECT_EQ(result, send);
    const auto part = world.split(3, 0);
    meet(*part);
  });
}

/// The message of the InputError of `call`; arguments are checked before anything is queued, so that no peer
/// is involved.
template <class Call>
[[nodiscard]] std::string input_error_of(Call&& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "(accepted)";
}

TYPED_TEST_P(CommunicatorContract, ArgumentsThatCannotBeAreRefusedAtTheCall) {
  TypeParam::run({3, 1}, kPatient, [](Communicator& world) {
    Stream stream(Device::cpu());
    float data[3] = {};
    const std::vector<std::int64_t> two = {0, 0};
    const std::vector<std::int64_t> three = {0, 0, 0};
    const std::vector<std::int64_t> negative = {0, -8, 0};
    std::vector<std::int64_t> numbers(5);
    EXPECT_EQ(input_error_of([&] { world.all_to_all({.bytes_per_peer = -1}, stream); }),
              "all_to_all: the size is -1; it is zero or more");
    EXPECT_EQ(input_error_of([&] { world.all_to_all({.group = 2, .parts = 1}, stream); }),
              "all_to_all: parts 1 must divide group 2, and group the 3 ranks");
    const auto ragged = [&](std::span<const std::int64_t> send_bytes) {
      world.ragged_all_to_all({.send_bytes = send_bytes,
                               .send_offset_bytes = three,
                               .recv_bytes = three,
                               .recv_offset_bytes = three},
                              stream);
    };
    EXPECT_EQ(input_error_of([&] { ragged(two); }),
              "ragged_all_to_all: send_bytes has 2 entries, the group has 3 ranks");
    EXPECT_EQ(input_error_of([&] { ragged(negative); }),
              "ragged_all_to_all: send_bytes holds -8; sizes and offsets are zero or more");
    EXPECT_EQ(
        input_error_of([&] { world.reduce_scatter(data, data, 1, DType::kI32, Traffic::kOther, stream); }),
        "reduce_scatter: i32 cannot be summed on the CPU; use fp32 or fp64");
    EXPECT_EQ(input_error_of(
                  [&] { world.all_reduce(data, 1, DType::kBF16, ReduceOp::kSum, Traffic::kOther, stream); }),
              "all_reduce: bf16 cannot be reduced on the CPU; use fp32, fp64, i32 or i64");
    EXPECT_EQ(input_error_of([&] { world.broadcast(data, 4, 3, Traffic::kOther, stream); }),
              "broadcast: root 3 is not a rank of a group of 3");
    EXPECT_EQ(input_error_of([&] { world.gather_host_blocking(two, numbers); }),
              "gather_host_blocking: room for 5 numbers, but 3 ranks give 2 each");
    meet(world);  // a refused call drew no number: the ranks still match
  });
}

}  // namespace flex::testing
