#include <gtest/gtest.h>

#include "runtime/launch.h"
#include "runtime/switching_benchmark.h"
#include "tests/support/cuda.h"

/// A changed plan costs nothing beyond the plan itself.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

LayerBenchmark benchmark(std::int64_t tokens) {
  LayerBenchmark result{.config = {.model_dim = 1024,
                                   .hidden_dim = 2048,
                                   .num_experts = 8,
                                   .dtype = DType::kBF16,
                                   .activation = Activation::kRelu},
                        .num_tokens = tokens,
                        .top_k = 2,
                        .repeats = 15};
  for (const char* plan : {"r1 d1 linear", "r0 d1 linear", "r1 d2 linear", "r1 d4 linear"}) {
    result.plans.push_back({parse_plan(plan), parse_plan(plan)});
  }
  return result;
}

// Few tokens are bound by the host that queues the work, many by the device.
TEST(CudaSwitching, CostsLessThanTwentyMicroseconds) {
  FLEX_SKIP_WITHOUT_CUDA();
  constexpr double kMostOverheadUs = 20;
  for (const std::int64_t tokens : {512, 16384}) {
    run_ranks({}, 120s, [&](Communicator& world) {
      RankContext context(world, Device::cuda(0));
      for (const SwitchingCost& cost : measure_switching(benchmark(tokens), context)) {
        EXPECT_LT(cost.overhead_us(), kMostOverheadUs)
            << to_string(cost.first.forward) << " and " << to_string(cost.second.forward) << ", " << tokens
            << " tokens: " << cost.first_us << ", " << cost.second_us << ", in turn " << cost.alternating_us
            << " us";
      }
    });
  }
}

}  // namespace
}  // namespace flex::testing
