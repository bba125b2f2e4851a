#include <algorithm>
#include <memory>

#include "runtime/all_to_all.h"
#include "tests/runtime/cuda_ranks.h"
#include "tests/support/count_allocations.h"

/// Groups, counters, streams and memory of ranks on a GPU, in-process ones and NCCL's.
namespace flex::testing {
namespace {

using CudaGroups = CudaRanks;

TEST_F(CudaGroups, SplitOrdersByKeyAndNests) {
  run_cuda_ranks({4, 2}, kPatient, [](Communicator& world) {
    const int rank = world.rank();
    const auto parity = world.split(rank % 2, -rank);  // the larger rank first
    const auto three = world.split(rank == 1 ? 1 : 0, 0);
    const auto reversed = three->split(0, -three->rank());
    const auto alone = parity->split(parity->rank(), 0);
    for (Communicator* group : {parity.get(), three.get(), reversed.get(), alone.get(), &world}) {
      Stream stream(kGpu);
      constexpr std::int64_t kCount = 4;
      Tensor send = on_gpu(pieces(group->rank(), group->size(), kCount));
      Tensor recv = poisoned_on_gpu(send.num_elements());
      group->all_to_all(
          {.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = bytes_of(kCount)}, stream);
      EXPECT_EQ(after(stream, recv), exchanged(group->rank(), group->size(), kCount));
      meet_on_gpu(*group);
    }
  });
}

TEST_F(CudaGroups, MayBeDestroyedWhileTheirWorkIsQueued) {
  run_cuda_ranks({4, 2}, kPatient, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor ballast(DType::kU8, {std::int64_t{64} << 20}, kGpu);
    Tensor send = on_gpu(pieces(world.rank(), world.size(), 100));
    Tensor recv = poisoned_on_gpu(send.num_elements());
    std::unique_ptr<Communicator> child = world.split(0, world.rank());
    for (int i = 0; i < 20; ++i) queue_fill(ballast.as<void>(), i, ballast.bytes(), stream);
    child->all_to_all({.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = bytes_of(100)},
                      stream);
    child.reset();
    EXPECT_EQ(after(stream, recv), exchanged(world.rank(), world.size(), 100));
    meet(world);
  });
}

TEST_F(CudaGroups, HostAndCpuCollectivesMixWithThoseOfTheGpu) {
  run_cuda_ranks({3, 3}, kPatient, [](Communicator& world) {
    for (int round = 0; round < 5; ++round) {
      meet_on_gpu(world);
      std::vector<std::int64_t> all(3, -1);
      world.gather_host_blocking(std::vector<std::int64_t>{world.rank() + round}, all);
      EXPECT_EQ(all, (std::vector<std::int64_t>{round, 1 + round, 2 + round}));
      meet(world);
    }
  });
}

std::vector<std::int64_t> counted(Communicator& group, Traffic traffic) {
  std::vector<std::int64_t> bytes;
  for (int peer = 0; peer < group.counters().topology().world; ++peer) {
    bytes.push_back(group.counters().bytes(traffic, peer));
  }
  return bytes;
}

TEST_F(CudaGroups, CountersAreThoseOfTheCpu) {
  using Bytes = std::vector<std::int64_t>;
  run_cuda_ranks({4, 2}, kPatient, [](Communicator& world) {
    const int rank = world.rank();
    Stream stream(kGpu);
    Tensor memory = Tensor::zeros(DType::kU8, {8192}, kGpu);
    void* const send = memory.as<void>();
    void* const recv = at(memory, 4096);
    world.all_to_all({.send = send, .recv = recv, .bytes_per_peer = 24, .traffic = Traffic::kDispatch},
                     stream);
    world.all_gather(send, recv, 10, Traffic::kWeights, stream);
    world.reduce_scatter(send, recv, 3, DType::kF64, Traffic::kGradients, stream);
    world.all_reduce(recv, 5, DType::kBF16, ReduceOp::kMax, Traffic::kGate, stream);
    world.broadcast(recv, 7, 2, Traffic::kOther, stream);
    const std::vector<std::int64_t> sizes = {0, 1, 0, 2};  // on every rank: p gets sizes[p] from each
    const std::vector<std::int64_t> recv_sizes(4, sizes[static_cast<std::size_t>(rank)]);
    const std::vector<std::int64_t> offsets = {0, 100, 200, 300};
    world.ragged_all_to_all({.send = send,
                             .send_bytes = sizes,
                             .send_offset_bytes = offsets,
                             .recv = recv,
                             .recv_bytes = recv_sizes,
                             .recv_offset_bytes = offsets,
                             .traffic = Traffic::kCombine},
                            stream);
    EXPECT_EQ(counted(world, Traffic::kDispatch), (Bytes{24, 24, 24, 24}));
    EXPECT_EQ(counted(world, Traffic::kWeights), (Bytes{10, 10, 10, 10}));
    EXPECT_EQ(counted(world, Traffic::kGradients), (Bytes{24, 24, 24, 24}));
    Bytes own(4, 0);
    own[static_cast<std::size_t>(rank)] = 10;
    EXPECT_EQ(counted(world, Traffic::kGate), own);
    EXPECT_EQ(counted(world, Traffic::kOther), rank == 2 ? (Bytes{0, 0, 0, 0}) : (Bytes{0, 0, 7, 0}));
    EXPECT_EQ(counted(world, Traffic::kCombine), (Bytes{0, 1, 0, 2}));
    EXPECT_EQ(world.counters().messages(Traffic::kCombine, 0), 0);
    EXPECT_EQ(world.counters().bytes(Traffic::kDispatch, LinkClass::kInterNode), 48);
    stream.synchronize_blocking();
  });
}

void check_hierarchical(int n, int m) {
  run_cuda_ranks({n, m}, kPatient, [n, m](Communicator& world) {
    constexpr std::int64_t kCount = 3;
    NodeGroups groups(world);
    const std::vector<double> sent = pieces(world.rank(), n, kCount);
    Tensor send = on_gpu(sent);
    Tensor recv = poisoned_on_gpu(n * kCount);
    Tensor scratch = poisoned_on_gpu(n * kCount);
    Stream stream(kGpu);
    hierarchical_2d_all_to_all(
        groups, {.send = send, .recv = recv, .scratch = scratch, .chunk_bytes = bytes_of(kCount)}, stream);
    EXPECT_EQ(after(stream, recv), exchanged(world.rank(), n, kCount)) << n << " ranks in nodes of " << m;
    EXPECT_EQ(values_of(send), sent) << "the send buffer must stay";
  });
}

TEST_F(CudaGroups, HierarchicalAllToAllEqualsLinearForEveryWorldAndNodeSize) {
  for (int n = 1; n <= 8; ++n) {
    for (int m = 1; m <= n; ++m) {
      if (n % m == 0) check_hierarchical(n, m);
    }
  }
}

/// An exchange on each rank's stream of `stream_of(rank)`.
void check_on_streams(const std::function<void*(int)>& stream_of) {
  run_cuda_ranks({4, 2}, kPatient, [&](Communicator& world) {
    Stream stream = Stream::borrow(kGpu, stream_of(world.rank()));
    Tensor send = on_gpu(pieces(world.rank(), world.size(), 50));
    Tensor recv = poisoned_on_gpu(send.num_elements());
    world.all_to_all({.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = bytes_of(50)},
                     stream);
    world.all_reduce(recv.as<void>(), recv.num_elements(), DType::kF64, ReduceOp::kMax, Traffic::kGate,
                     stream);
    EXPECT_EQ(after(stream, recv), exchanged(world.size() - 1, world.size(), 50));
  });
}

TEST_F(CudaGroups, WorkOnStreamsOfTheCaller) {
  std::vector<cudaStream_t> streams(4);
  for (cudaStream_t& stream : streams) FLEX_CUDA_CHECK(cudaStreamCreate(&stream));
  check_on_streams([&](int rank) { return static_cast<void*>(streams[static_cast<std::size_t>(rank)]); });
  check_on_streams([&](int) { return static_cast<void*>(streams[0]); });  // one for all
  check_on_streams([](int) { return nullptr; });                          // the default stream
  for (cudaStream_t stream : streams) FLEX_CUDA_CHECK(cudaStreamDestroy(stream));
}

// What CUDA allocates for itself is not in our hands, and rare: a call of ours that allocated would show in
// every call.
TEST_F(CudaGroups, AllocateNothingOnceWarm) {
  run_cuda_ranks({4, 2}, kPatient, [](Communicator& world) {
    const auto node = world.split(world.rank() / 2, 0);
    Stream stream(kGpu);
    Tensor send = Tensor::zeros(DType::kU8, {4096}, kGpu);
    Tensor recv = Tensor::zeros(DType::kU8, {4096}, kGpu);
    const std::vector<std::int64_t> sizes(4, 8);
    const std::vector<std::int64_t> offsets = {0, 8, 16, 24};
    constexpr int kCallsPerRound = 6;
    const auto round = [&] {
      world.all_to_all({.send = send.as<void>(), .recv = recv.as<void>(), .bytes_per_peer = 64}, stream);
      world.ragged_all_to_all({.send = send.as<void>(),
                               .send_bytes = sizes,
                               .send_offset_bytes = offsets,
                               .recv = recv.as<void>(),
                               .recv_bytes = sizes,
                               .recv_offset_bytes = offsets},
                              stream);
      node->all_gather(send.as<void>(), recv.as<void>(), 64, Traffic::kWeights, stream);
      world.reduce_scatter(send.as<void>(), recv.as<void>(), 8, DType::kF64, Traffic::kGradients, stream);
      world.all_reduce(recv.as<void>(), 16, DType::kF32, ReduceOp::kSum, Traffic::kGate, stream);
      world.broadcast(recv.as<void>(), 64, 1, Traffic::kOther, stream);
    };
    std::vector<std::int64_t> all(4);
    const std::int64_t mine = world.rank();
    const auto measure = [&] {
      std::size_t free_bytes = 0;
      std::size_t total_bytes = 0;
      stream.synchronize_blocking();
      world.gather_host_blocking({&mine, 1}, all);
      FLEX_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
      const std::pair<std::int64_t, std::size_t> result = {num_allocations(), free_bytes};
      world.gather_host_blocking({&mine, 1}, all);  // nobody goes on before all have read the numbers
      return result;
    };
    constexpr int kRounds = 20;
    for (int i = 0; i < kRounds; ++i) round();
    static_cast<void>(measure());
    const auto before = measure();
    for (int i = 0; i < kRounds; ++i) round();
    const auto after_rounds = measure();
    EXPECT_LT(after_rounds.first - before.first, kRounds * kCallsPerRound);
    EXPECT_EQ(after_rounds.second, before.second);
  });
}

}  // namespace
}  // namespace flex::testing
