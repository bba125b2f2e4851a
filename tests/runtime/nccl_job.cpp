// A small NCCL job that ends in the way that its argument names; nccl_failures.sh looks at how it ended.
#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <thread>

#include "base/error.h"
#include "kernels/tensor.h"
#include "runtime/nccl_launch.h"

namespace flex {
namespace {

constexpr std::chrono::milliseconds kDeadline{10'000};  // 5 s of silence count as stopped
constexpr std::chrono::seconds kForever{3600};
constexpr Device kGpu = Device::cuda(0);
constexpr std::int64_t kBytes = 1 << 20;

/// An exchange on the device, waited for.
void exchange(Communicator& world) {
  Stream stream(kGpu);
  Tensor send = Tensor::zeros(DType::kU8, {kBytes * world.size()}, kGpu);
  Tensor recv = Tensor::zeros(DType::kU8, {kBytes * world.size()}, kGpu);
  world.all_to_all({.send = send.as<void>(),
                    .recv = recv.as<void>(),
                    .bytes_per_peer = kBytes,
                    .traffic = Traffic::kDispatch},
                   stream);
  stream.synchronize_blocking();
}

/// Two exchanges; instead of the third, rank 1 does something that keeps the others waiting on the device.
void third_exchange(Communicator& world, const std::function<void()>& instead) {
  exchange(world);
  exchange(world);
  if (world.rank() == 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    instead();
  }
  exchange(world);
  exchange(world);  // a device that was given up says so in the next call
}

void end_well(Communicator& world) {
  exchange(world);
  exchange(world);
}
void killed_on_rank_1(Communicator& world) {
  third_exchange(world, [] { raise(SIGKILL); });
}
void stopped_on_rank_1(Communicator& world) {
  third_exchange(world, [] { raise(SIGSTOP); });
}
void sleep_on_rank_1(Communicator& world) {
  third_exchange(world, [] { std::this_thread::sleep_for(kForever); });
}
void throw_on_rank_1(Communicator& world) {
  third_exchange(world, [] { throw Error("no such expert"); });
}
void abort_on_rank_1(Communicator& world) {
  third_exchange(world, [&] { world.abort("the watchdog found no progress"); });
}
/// Keeps its port for a while.
void hold(Communicator& world) {
  exchange(world);
  std::this_thread::sleep_for(std::chrono::seconds(6));
  exchange(world);
}
/// Rank 1 calls something else as its third collective; every call is checked.
void differ_on_rank_1(Communicator& world) {
  third_exchange(world, [&] {
    Stream stream(kGpu);
    Tensor data = Tensor::zeros(DType::kF32, {kBytes}, kGpu);
    world.all_reduce(data.as<void>(), kBytes, DType::kF32, ReduceOp::kSum, Traffic::kGate, stream);
    stream.synchronize_blocking();
  });
}

int run(const std::string& way) {
  const LaunchEnvironment environment = launch_environment();
  const auto run_way = [&](const std::function<void(Communicator&)>& body) {
    run_nccl_rank(environment,
                  {.device = kGpu, .deadline = kDeadline, .checks_calls = way == "differ_on_rank_1"}, body);
  };
  if (way == "end_well") run_way(end_well);
  if (way == "killed_on_rank_1") run_way(killed_on_rank_1);
  if (way == "stopped_on_rank_1") run_way(stopped_on_rank_1);
  if (way == "sleep_on_rank_1") run_way(sleep_on_rank_1);
  if (way == "throw_on_rank_1") run_way(throw_on_rank_1);
  if (way == "abort_on_rank_1") run_way(abort_on_rank_1);
  if (way == "differ_on_rank_1") run_way(differ_on_rank_1);
  if (way == "hold") run_way(hold);
  fmt::print("rank {} ended well\n", environment.rank);
  return 0;
}

}  // namespace
}  // namespace flex

int main(int argc, char** argv) {
  try {
    return argc == 2 ? flex::run(argv[1]) : 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "flexmoe: {}\n", error.what());
    return 2;
  }
}
