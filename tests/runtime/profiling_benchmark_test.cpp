#include "runtime/profiling_benchmark.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "runtime/launch.h"
#include "runtime/timed_layer.h"
#include "tests/base/expect_error.h"

namespace flex {
namespace {

TEST(LoadedLibraries, AreSeen) {
  EXPECT_TRUE(is_library_loaded("libc.so"));
  EXPECT_FALSE(is_library_loaded("libnobody-has-this"));
}

// Also in a build that has CUPTI: recording operations by marks does not open it.
TEST(LoadedLibraries, HaveNoCuptiWithoutIt) {
  run_ranks({}, std::chrono::seconds(30), [](Communicator& world) {
    RankContext context(world, Device::cpu());
    Stream stream(Device::cpu());
    TimedLayer layer({.num_tokens = 32, .model_dim = 8, .hidden_dim = 8, .num_experts = 2}, DType::kF32, 1,
                     context, stream);
    static_cast<void>(layer.record_blocking({}, PassOrder::kAsPlanned));
  });
  EXPECT_FALSE(is_library_loaded("libcupti"));
}

TEST(ProfilingBenchmark, NeedsAGpu) {
  run_ranks({}, std::chrono::seconds(30), [](Communicator& world) {
    RankContext context(world, Device::cpu());
    EXPECT_EQ(message_of<InputError>(
                  [&] { static_cast<void>(measure_profiling(profiling_layer(DType::kF32), context)); }),
              "what CUPTI costs is measured on a GPU; use --device cuda:0");
  });
}

}  // namespace
}  // namespace flex
