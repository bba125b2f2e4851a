#include <gmock/gmock.h>

#include "runtime/local_communicator.h"
#include "tests/runtime/cuda_ranks.h"

/// Failures of calls on CUDA streams: thrown by the call, on every rank, and they name who and what.
namespace flex::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using LocalCudaFailures = CudaRanks;

constexpr Milliseconds kShort{500};
constexpr Milliseconds kSlack{1000};

TEST_F(LocalCudaFailures, DeadlineNamesTheSleepingRank) {
  run_ranks({4, 2}, kShort, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor data = on_gpu({1.0});
    meet(world);
    if (world.rank() == 2) std::this_thread::sleep_for(kShort + kSlack);
    const auto call = [&] {
      world.all_reduce(data.as<void>(), 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
    };
    const std::string failure = failure_of(call);
    EXPECT_EQ(failure, "all_reduce (gate) in group {0,1,2,3}: rank 2 did not arrive within 500 ms");
    EXPECT_EQ(failure_of(call), failure) << "after a failure there are only failures";
    EXPECT_EQ(failure_of([&] { static_cast<void>(world.split(0, 0)); }), failure);
    EXPECT_EQ(world.counters().bytes(Traffic::kGate, world.rank()), 8) << "the CPU's, before";
    EXPECT_EQ(after(stream, data), std::vector<double>{1.0});  // the stream is as healthy as before
  });
}

TEST_F(LocalCudaFailures, DifferentCallsAreNamedOnEveryRank) {
  run_ranks({3, 3}, kPatient, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor data = on_gpu(std::vector<double>(9, 1.0));
    Tensor gathered = poisoned_on_gpu(9);
    const std::string failure = failure_of([&] {
      if (world.rank() == 1) {
        world.all_gather(data.as<void>(), gathered.as<void>(), 24, Traffic::kWeights, stream);
      } else {
        world.all_reduce(data.as<void>(), 3, DType::kF64, ReduceOp::kMax, Traffic::kGate, stream);
      }
    });
    EXPECT_THAT(failure, AllOf(HasSubstr("the ranks of group {0,1,2} do not call the same: "),
                               HasSubstr("rank 1 called all_gather (weights), 24 bytes per rank on cuda:0"),
                               HasSubstr("ranks 0, 2 called all_reduce (gate), max of 3 fp64 on cuda:0")));
  });
}

TEST_F(LocalCudaFailures, CpuAndCudaBuffersInOneCollectiveAreNamed) {
  run_ranks({2, 2}, kPatient, [](Communicator& world) {
    const Device device = world.rank() == 0 ? kGpu : Device::cpu();
    Stream stream(device);
    Tensor data = make_tensor({1}, {1.0}, DType::kF64, device);
    const std::string failure = failure_of([&] {
      world.all_reduce(data.as<void>(), 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
      stream.synchronize_blocking();
    });
    EXPECT_EQ(failure,
              "the ranks of group {0,1} do not call the same: rank 0 called all_reduce (gate), sum of 1 fp64 "
              "on cuda:0; rank 1 called all_reduce (gate), sum of 1 fp64");
  });
}

TEST_F(LocalCudaFailures, PairsOfARaggedExchangeMustAgree) {
  run_ranks({2, 2}, kPatient, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor send = Tensor::zeros(DType::kU8, {300}, kGpu);
    Tensor recv = Tensor::zeros(DType::kU8, {300}, kGpu);
    const std::vector<std::int64_t> offsets = {0, 100};
    const std::vector<std::int64_t> sizes = {8, 8};
    const std::vector<std::int64_t> other = {8, 40};
    EXPECT_EQ(failure_of([&] {
                world.ragged_all_to_all({.send = send.as<void>(),
                                         .send_bytes = world.rank() == 0 ? other : sizes,
                                         .send_offset_bytes = offsets,
                                         .recv = recv.as<void>(),
                                         .recv_bytes = sizes,
                                         .recv_offset_bytes = offsets,
                                         .traffic = Traffic::kCombine},
                                        stream);
              }),
              "ragged_all_to_all (combine) in group {0,1}: rank 0 sends 40 bytes to rank 1, which expects 8");
  });
}

TEST_F(LocalCudaFailures, AbortFromAForeignThreadEndsEveryWait) {
  run_ranks({3, 3}, kPatient, [](Communicator& world) {
    if (world.rank() == 2) {
      std::thread foreign([&world] {
        std::this_thread::sleep_for(Milliseconds(50));
        world.abort("the watchdog found rank 2 stuck");
      });
      foreign.join();
    }
    EXPECT_EQ(failure_of([&] { meet_on_gpu(world); }), "the watchdog found rank 2 stuck");
  });
}

TEST_F(LocalCudaFailures, AFailureOfCudaEndsThePeersNextCall) {
  run_ranks({3, 3}, kPatient, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor data = on_gpu({1.0, 2.0});
    void* const place = world.rank() == 1 ? nullptr : data.as<void>();
    const auto call = [&] { world.broadcast(place, 16, 0, Traffic::kOther, stream); };
    if (world.rank() == 1) {
      EXPECT_THROW(call(), DeviceError);
    } else {
      EXPECT_EQ(failure_of(call), "(completed)");
    }
    EXPECT_THAT(failure_of([&] { meet(world); }),
                HasSubstr("rank 1 failed in broadcast (other) in group {0,1,2}: "));
    stream.synchronize_blocking();
  });
}

std::string input_error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "(accepted)";
}

TEST_F(LocalCudaFailures, ArgumentsThatCannotBeAreRefusedAtTheCall) {
  run_ranks({2, 2}, kPatient, [](Communicator& world) {
    Stream stream(kGpu);
    Tensor data = on_gpu({1.0, 2.0});
    void* const at_data = data.as<void>();
    EXPECT_EQ(input_error_of(
                  [&] { world.reduce_scatter(at_data, at_data, 1, DType::kI32, Traffic::kOther, stream); }),
              "reduce_scatter: i32 cannot be summed on CUDA; use fp32, fp64, fp16 or bf16");
    EXPECT_EQ(input_error_of(
                  [&] { world.all_reduce(at_data, 1, DType::kU8, ReduceOp::kSum, Traffic::kOther, stream); }),
              "all_reduce: u8 cannot be reduced on CUDA; use fp32, fp64, fp16, bf16, i32 or i64");
    EXPECT_EQ(input_error_of([&] { world.broadcast(at_data, 4, 2, Traffic::kOther, stream); }),
              "broadcast: root 2 is not a rank of a group of 2");
    meet_on_gpu(world);  // a refused call drew no number: the ranks still match
  });
}

TEST_F(LocalCudaFailures, ReductionsOverMoreRanksThanAKernelTakesAreRefused) {
  const auto world = make_local_world({65, 8}, kPatient);
  Stream stream(kGpu);
  EXPECT_EQ(input_error_of([&] {
              world[0]->all_reduce(nullptr, 0, DType::kF32, ReduceOp::kSum, Traffic::kGate, stream);
            }),
            "all_reduce (gate): reductions on CUDA take up to 64 in-process ranks, the group has 65");
}

}  // namespace
}  // namespace flex::testing
