#include <algorithm>

#include "tests/runtime/cuda_ranks.h"

/// What each collective does with data on a GPU, of in-process ranks and of NCCL's.
namespace flex::testing {
namespace {

class CudaCollectives : public CudaRanks {
 protected:
  static void run(const std::function<void(Communicator&)>& body) {
    run_cuda_ranks({GetParam(), 2}, kPatient, body);
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, CudaCollectives, ::testing::Values(1, 2, 4, 8));

TEST_P(CudaCollectives, AllToAllDeliversEveryPiece) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const std::int64_t count : {0, 1, 1000, 70'000}) {
      const auto sent = pieces(world.rank(), world.size(), count);
      Tensor send = on_gpu(sent);
      Tensor recv = poisoned_on_gpu(send.num_elements());
      world.all_to_all({.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = bytes_of(count)},
                       stream);
      EXPECT_EQ(after(stream, recv), exchanged(world.rank(), world.size(), count)) << count;
      EXPECT_EQ(values_of(send), sent) << count;
    }
  });
}

TEST_P(CudaCollectives, AllToAllDeliversPiecesOfOddBytes) {
  const auto byte = [](int from, int to, std::int64_t i) {
    return static_cast<double>((31 * from + 7 * to + i) % 251);
  };
  run([&](Communicator& world) {
    Stream stream(kGpu);
    for (const std::int64_t count : {1, 3, 1001}) {
      std::vector<double> sent, expected;
      for (int peer = 0; peer < world.size(); ++peer) {
        for (std::int64_t i = 0; i < count; ++i) {
          sent.push_back(byte(world.rank(), peer, i));
          expected.push_back(byte(peer, world.rank(), i));
        }
      }
      Tensor send = on_gpu(sent, DType::kU8);
      Tensor recv = on_gpu(std::vector<double>(sent.size(), 255.0), DType::kU8);
      world.all_to_all({.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = count}, stream);
      EXPECT_EQ(after(stream, recv), expected) << count;
    }
  });
}

TEST_P(CudaCollectives, AllToAllSendsSharedPiecesToSeveralPeers) {
  run([](Communicator& world) {
    constexpr std::int64_t kCount = 5;
    Stream stream(kGpu);
    for (int group = 1; group <= world.size(); group *= 2) {
      for (int parts = 1; parts <= group; parts *= 2) {
        Tensor send = on_gpu(pieces(world.rank(), world.size() / group * parts, kCount));
        Tensor recv = poisoned_on_gpu(world.size() * kCount);
        world.all_to_all({.send = send.as<void>(),
                          .recv = recv.as<void>(),
                          .bytes_per_peer = bytes_of(kCount),
                          .group = group,
                          .parts = parts},
                         stream);
        const auto place = static_cast<int>(shared_place(world.rank(), group, parts));
        EXPECT_EQ(after(stream, recv), exchanged(place, world.size(), kCount)) << group << " " << parts;
      }
    }
  });
}

TEST_P(CudaCollectives, RaggedAllToAllDeliversUnequalPieces) {
  const auto count = [](int from, int to) -> std::int64_t {
    return (from + to) % 3 == 0 ? 0 : 100 * from + 10 * to + 1;
  };
  run([&](Communicator& world) {
    constexpr std::int64_t kGap = 3;  // elements between pieces that nobody may touch
    const int rank = world.rank();
    std::vector<std::int64_t> send_bytes, send_offsets, recv_bytes, recv_offsets;
    std::vector<double> sent, expected;
    for (int peer = 0; peer < world.size(); ++peer) {
      send_bytes.push_back(bytes_of(count(rank, peer)));
      send_offsets.push_back(bytes_of(std::ssize(sent)));
      for (std::int64_t i = 0; i < count(rank, peer); ++i) sent.push_back(content(rank, peer, i));
      sent.insert(sent.end(), kGap, kPoison);
      recv_bytes.push_back(bytes_of(count(peer, rank)));
      recv_offsets.push_back(bytes_of(std::ssize(expected)));
      for (std::int64_t i = 0; i < count(peer, rank); ++i) expected.push_back(content(peer, rank, i));
      expected.insert(expected.end(), kGap, kPoison);
    }
    Stream stream(kGpu);
    Tensor send = on_gpu(sent);
    Tensor recv = poisoned_on_gpu(std::ssize(expected));
    world.ragged_all_to_all({.send = send.as<void>(),
                             .send_bytes = send_bytes,
                             .send_offset_bytes = send_offsets,
                             .recv = recv.as<void>(),
                             .recv_bytes = recv_bytes,
                             .recv_offset_bytes = recv_offsets},
                            stream);
    EXPECT_EQ(after(stream, recv), expected);
  });
}

TEST_P(CudaCollectives, AllGatherOrdersByRankAlsoInPlace) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const std::int64_t count : {0, 1, 777}) {
      const auto own = [&](int rank) { return pieces(rank, 1, count); };
      std::vector<double> expected;
      std::vector<double> start(static_cast<std::size_t>(world.size() * count), kPoison);
      for (int rank = 0; rank < world.size(); ++rank) {
        const auto piece = own(rank);
        expected.insert(expected.end(), piece.begin(), piece.end());
      }
      const auto mine = own(world.rank());
      std::copy(mine.begin(), mine.end(), start.begin() + world.rank() * count);
      Tensor send = on_gpu(mine);
      Tensor all = poisoned_on_gpu(world.size() * count);
      Tensor in_place = on_gpu(start);
      world.all_gather(send.as<void>(), all.as<void>(), bytes_of(count), Traffic::kWeights, stream);
      world.all_gather(at(in_place, world.rank() * count), in_place.as<void>(), bytes_of(count),
                       Traffic::kWeights, stream);
      EXPECT_EQ(after(stream, all), expected) << count;
      EXPECT_EQ(values_of(in_place), expected) << count;
    }
  });
}

TEST_P(CudaCollectives, BroadcastFromEachRoot) {
  run([](Communicator& world) {
    Stream stream(kGpu);
    for (const std::int64_t count : {0, 1, 999}) {
      for (int root = 0; root < world.size(); ++root) {
        const auto expected = pieces(root, 1, count);
        Tensor data = world.rank() == root ? on_gpu(expected) : poisoned_on_gpu(count);
        world.broadcast(data.as<void>(), bytes_of(count), root, Traffic::kOther, stream);
        EXPECT_EQ(after(stream, data), expected) << count << " from " << root;
      }
    }
  });
}

}  // namespace
}  // namespace flex::testing
