#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>

#include "runtime/adaptive_layer.h"
#include "runtime/launch.h"
#include "tests/support/count_allocations.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

/// Another plan in every iteration, from what it was told.
class TurningPolicy final : public PlanPolicy {
 public:
  [[nodiscard]] PlanPair choose(std::int64_t /*layer*/, const LayerLoad& /*load*/) override {
    const Plan plan{.parallel_degree = num_told_ % 3 == 0 ? 0 : 1,
                    .pipeline_degree = num_told_ % 3 == 1 ? 2 : 1};
    return {plan, plan};
  }
  void observe(std::int64_t /*layer*/, const LayerLoad& /*load*/, const PlanPair& /*plans*/,
               const PassDurations& durations) override {
    if (durations.forward_ns > 0 && durations.backward_ns > 0) ++num_told_;
  }
  [[nodiscard]] std::uint64_t state_hash() const override { return static_cast<std::uint64_t>(num_told_); }
  [[nodiscard]] int num_told() const { return num_told_; }

 private:
  int num_told_ = 0;
};

TEST(AdaptiveLayer, AllocatesNothingAfterWarmUp) {
  std::atomic<std::int64_t> allocations{-1};
  run_ranks({4, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    TurningPolicy policy;
    MoeLayer layer({.model_dim = 16, .hidden_dim = 16, .num_experts = 4}, context);
    AdaptiveLayer adaptive(layer, policy, 0, context);
    const Tensor x = Tensor::zeros(DType::kF32, {32, 16});
    Tensor y(DType::kF32, {32, 16});
    Tensor dx(DType::kF32, {32, 16});
    Stream stream(Device::cpu());
    const auto iterate = [&](double capacity_factor) {
      static_cast<void>(adaptive.forward(x, y, {.capacity_factor = capacity_factor}, stream));
      adaptive.backward(y, dx, 0.1, stream);
      stream.synchronize_blocking();
    };
    const auto run = [&] {
      for (int i = 0; i < 6; ++i) iterate(i < 3 ? 1.5 : 0.0);
    };
    run();
    run();  // the arena is in one block by now
    std::array<std::int64_t, 4> arrived{};
    const std::array<std::int64_t, 1> here{0};
    world.gather_host_blocking(here, arrived);
    const std::int64_t before = num_allocations();
    for (int i = 0; i < 5; ++i) run();
    world.gather_host_blocking(here, arrived);  // nobody has left the loop's work yet
    if (world.rank() == 0) allocations = num_allocations() - before;
    world.gather_host_blocking(here, arrived);
    EXPECT_EQ(policy.num_told(), 7 * 6 - 1);
  });
  EXPECT_EQ(allocations, 0);
}

}  // namespace
}  // namespace flex::testing
