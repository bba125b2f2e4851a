#include "costmodel/prediction.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/units.h"
#include "costmodel/cluster_description.h"
#include "costmodel/plan_pair.h"
#include "costmodel/plan_space.h"

namespace flex {
namespace {

LayerStack stack_of(int nodes, std::int64_t experts, bool dropless = false) {
  LayerStack stack{.cluster = load_cluster("azure_ndv4_a100", nodes)};
  stack.workload = {.world = stack.cluster.world(),
                    .num_experts = experts,
                    .num_tokens = 4096,
                    .capacity = 4096 * 2 / experts,
                    .top_k = 2,
                    .model_dim = 1024,
                    .hidden_dim = 4096,
                    .dropless = dropless};
  return stack;
}

double sum(const auto& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

TEST(Prediction, SharesAndOriginsAddUpToTheTotal) {
  const LayerStack stack = stack_of(2, 8);
  const CostModel costs = cost_model_of(stack.cluster);
  PlanPredictor predictor(stack, costs);
  const auto all = predictor.all();
  EXPECT_EQ(all.size(), PlanSpace(stack.workload, stack.cluster).plans().size()) << "none is counted here";
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_NEAR(sum(all[i].class_us), all[i].total_us, 1e-9 * all[i].total_us);
    EXPECT_NEAR(sum(all[i].origin_us), all[i].total_us, 1e-9 * all[i].total_us);
    EXPECT_GT(all[i].error_us, 0);
    EXPECT_GT(all[i].memory_bytes, 0);
    if (i == 0) continue;
    EXPECT_GE(all[i].total_us, all[i - 1].total_us) << "fastest first";
  }
}

// Every padded pair, one by one.
TEST(Prediction, BestIsTheFastestOfAllPairs) {
  for (const LayerStack& stack : {stack_of(2, 8), stack_of(2, 32), stack_of(8, 16, true), stack_of(1, 2)}) {
    const CostModel costs = cost_model_of(stack.cluster);
    PlanPredictor predictor(stack, costs);
    const PlanPrediction best = predictor.best();
    const auto plans = PlanSpace(stack.workload, stack.cluster).plans();
    double fastest = best.total_us;
    for (const Plan& forward : plans) {
      for (const Plan& backward : plans) {
        if (!can_pair(forward, backward) || forward.expert_kernel == ExpertKernel::kCounted) continue;
        fastest = std::min(fastest, predictor.predict(forward, backward).total_us);
      }
    }
    EXPECT_NEAR(best.total_us, fastest, 1e-9 * fastest)
        << to_string(best.forward) << " / " << to_string(best.backward);
  }
}

TEST(Prediction, PlansThatDoNotFitComeLast) {
  LayerStack stack = stack_of(2, 8);
  const CostModel costs = cost_model_of(stack.cluster);
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  std::int64_t most = 0;
  for (const PlanPrediction& p : PlanPredictor(stack, costs).all()) {
    least = std::min(least, p.memory_bytes);
    most = std::max(most, p.memory_bytes);
  }
  ASSERT_LT(least, most);
  stack.cluster.device.memory_GiB = static_cast<double>(least + most) / 2 / kBytesPerGiB;
  bool seen_too_large = false;
  for (const PlanPrediction& p : PlanPredictor(stack, costs).all()) {
    EXPECT_FALSE(seen_too_large && p.fits);
    seen_too_large = seen_too_large || !p.fits;
  }
  EXPECT_TRUE(seen_too_large);
  EXPECT_TRUE(PlanPredictor(stack, costs).best().fits);
}

// The fastest pair of plans is too large for this device, another is not.
TEST(Prediction, BestLooksForAPairThatFits) {
  LayerStack stack = stack_of(8, 128);
  stack.workload.num_tokens = 16384;
  stack.workload.capacity = 256;
  stack.workload.model_dim = stack.workload.hidden_dim = 2048;
  const CostModel costs = cost_model_of(stack.cluster);
  const std::int64_t wanted = PlanPredictor(stack, costs).best().memory_bytes;
  stack.cluster.device.memory_GiB = (static_cast<double>(wanted) - 1) / kBytesPerGiB;
  PlanPredictor predictor(stack, costs);
  const PlanPrediction best = predictor.best();
  EXPECT_TRUE(best.fits);
  EXPECT_LT(best.memory_bytes, wanted);
  for (const PlanPrediction& one : predictor.all()) {
    if (!one.fits) continue;
    EXPECT_LE(best.total_us, one.total_us) << to_string(one.forward);
  }
}

TEST(Prediction, PairsThatCannotRunAreRefused) {
  const LayerStack stack = stack_of(2, 8, true);
  const CostModel costs = cost_model_of(stack.cluster);
  PlanPredictor predictor(stack, costs);
  EXPECT_THROW(static_cast<void>(predictor.predict(parse_plan("r2 d1 linear"), parse_plan("r1 d1 linear"))),
               InputError);
  EXPECT_THROW(static_cast<void>(predictor.predict(parse_plan("r1 counted"), parse_plan("r1 counted"))),
               InputError);
}

TEST(Prediction, PassesAndLayersAddUp) {
  LayerStack stack = stack_of(2, 8);
  stack.workload.agree_on_tokens = false;  // on the host, beside what the device still does
  const CostModel costs = cost_model_of(stack.cluster);
  const auto total = [&](Passes passes, std::int64_t layers) {
    stack.passes = passes;
    stack.num_layers = layers;
    return PlanPredictor(stack, costs).predict(kDefaultPlan, kDefaultPlan).total_us;
  };
  const double forward = total(Passes::kForward, 1);
  const double backward = total(Passes::kBackward, 1);
  EXPECT_NEAR(total(Passes::kBoth, 1), forward + backward, 1e-6 * forward);
  EXPECT_NEAR(total(Passes::kBoth, 3), 3 * (forward + backward), 1e-6 * forward);
}

TEST(Prediction, TheBaselineIsSlower) {
  for (const int nodes : {2, 256}) {
    const LayerStack stack = stack_of(nodes, 16LL * nodes);
    const CostModel costs = cost_model_of(stack.cluster);
    EXPECT_GT(predict_fairseq(stack, costs).total_us, PlanPredictor(stack, costs).best().total_us);
  }
}

}  // namespace
}  // namespace flex
