#include <gtest/gtest.h>

#include "runtime/launch.h"
#include "runtime/switching_benchmark.h"
#include "tests/support/cuda.h"

/// A changed plan costs nothing beyond the plan itself.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

TEST(CudaSwitching, CostsLessThanTwentyMicroseconds) {
  FLEX_SKIP_WITHOUT_CUDA();
  constexpr double kMostOverheadUs = 20;
  run_ranks({}, 120s, [&](Communicator& world) {
    RankContext context(world, Device::cuda(0));
    for (const SwitchingCost& cost : run_switching_suite(DType::kBF16, context)) {
      EXPECT_LT(cost.overhead_us, kMostOverheadUs)
          << to_string(cost.first.forward) << " and " << to_string(cost.second.forward) << ", " << cost.tokens
          << " tokens: " << cost.first_us << ", " << cost.second_us << ", in turn " << cost.alternating_us
          << " us";
    }
  });
}

}  // namespace
}  // namespace flex::testing
