#include "runtime/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include "tests/runtime/cuda_ranks.h"

/// What is NCCL's alone. Runs in a job of processes (nccl_processes.sh), all on one GPU.
namespace flex::testing {
namespace {

using ::testing::MatchesRegex;

using NcclCuda = CudaRanks;

TEST_F(NcclCuda, DescribesItself) {
  run_cuda_ranks({2, 2}, kPatient, [](Communicator& world) {
    EXPECT_EQ(world.description(), "NCCL, 2 ranks");
    EXPECT_THAT(world.transport(), MatchesRegex("NCCL [0-9]+\\.[0-9]+\\.[0-9]+"));
    EXPECT_EQ(world.rank(), launch_environment().rank);
  });
}

TEST_F(NcclCuda, RefusesAnotherDevice) {
  run_cuda_ranks({2, 2}, kPatient, [](Communicator& world) {
    try {
      static_cast<void>(
          make_nccl_world(launch_environment(), {.device = Device::cpu(), .ranks_per_node = 1}));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const InputError& error) {
      EXPECT_STREQ(error.what(), "NCCL moves CUDA buffers; this rank's device is cpu");
    }
    meet_on_gpu(world);
  });
}

/// A communicator that the user has, as a program with NCCL of its own makes it: blocking.
TEST_F(NcclCuda, TakesACommunicatorOfTheCaller) {
  run_cuda_ranks({2, 2}, kPatient, [](Communicator& world) {
    FLEX_CUDA_CHECK(cudaSetDevice(kGpu.index));
    ncclUniqueId id{};
    ASSERT_TRUE(world.rank() != 0 || ncclGetUniqueId(&id) == ncclSuccess);
    Stream host(Device::cpu());
    world.broadcast(&id, sizeof(id), 0, Traffic::kControl, host);
    host.synchronize_blocking();
    ncclComm_t comm = nullptr;
    ASSERT_EQ(ncclCommInitRank(&comm, world.size(), id, world.rank()), ncclSuccess);
    {
      const auto wrapped = wrap_nccl_comm(comm, {.device = kGpu, .ranks_per_node = 1, .deadline = kPatient});
      EXPECT_EQ(wrapped->size(), 2);
      EXPECT_EQ(wrapped->rank(), world.rank());
      meet_on_gpu(*wrapped);
      const auto part = wrapped->split(0, -wrapped->rank());
      meet_on_gpu(*part);
    }
    int rank = -1;
    EXPECT_EQ(ncclCommUserRank(comm, &rank), ncclSuccess) << "it is the caller's again";
    EXPECT_EQ(ncclCommDestroy(comm), ncclSuccess);
    meet(world);
  });
}

}  // namespace
}  // namespace flex::testing
