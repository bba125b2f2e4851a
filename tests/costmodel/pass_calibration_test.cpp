#include "costmodel/pass_calibration.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "base/philox.h"
#include "costmodel/cost_model.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

using ::testing::Contains;
using ::testing::Not;

constexpr std::int64_t kManyLayers = 1'000'000'000;

// Beyond bands of 3, 5 and 10 us of 100: sqrt(5^2 - 3^2) = 4, sqrt(13^2 - 5^2) = 12, and nothing.
const std::vector<PassResidual> kResiduals = {{100, 3, 105}, {100, 5, 87}, {100, 10, 108}};

TEST(PassError, IsWhatBandsOfOperationsLackInQuadrature) {
  // Of 0, 4% and 12%, 68.3% of the way from the first to the last: 0.366 of the way from 4% to 12%.
  EXPECT_NEAR(fit_pass_error(kResiduals, kManyLayers), 0.04 + 0.366 * 0.08, 1e-9);
  EXPECT_DOUBLE_EQ(fit_pass_error(std::vector<PassResidual>{{200, 0, 210}}, kManyLayers), 0.05);
}

TEST(PassError, OfFewLayersIsLarger) {
  // Three layers: 4/3 of 68.3% of the way, 0.8213 from 4% to 12%. One or two: the largest.
  EXPECT_NEAR(fit_pass_error(kResiduals, 3), 0.04 + (2 * 0.683 * 4 / 3 - 1) * 0.08, 1e-12);
  EXPECT_DOUBLE_EQ(fit_pass_error(kResiduals, 2), 0.12);
  EXPECT_DOUBLE_EQ(fit_pass_error(kResiduals, 1), 0.12);
}

TEST(PassError, IsNothingWhereOperationsExplainAll) {
  EXPECT_EQ(fit_pass_error(std::vector<PassResidual>{{100, 10, 95}, {50, 5, 55}}, 1), 0);
}

TEST(PassError, SaysWhatCannotBe) {
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(fit_pass_error({}, 1)); }),
            "the error of passes from 0 of them, of 1 layers; there is at least one of each");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(fit_pass_error(kResiduals, 0)); }),
            "the error of passes from 3 of them, of 0 layers; there is at least one of each");
  EXPECT_EQ(message_of<InputError>([] {
              static_cast<void>(fit_pass_error(std::vector<PassResidual>{{100, 3, 0}}, 1));
            }),
            "a pass of 0 us that was predicted to take 100 us; both are above 0");
}

// Passes of a layer err alike, and layers differently. What 12 of them say holds 68.3% of the passes of
// others on average over draws, and up to one in 13 more; without the correction for their number, fewer.
TEST(PassErrorProperty, HoldsAsManyPassesOfOtherLayers) {
  constexpr int kTrials = 2000;
  constexpr int kLayers = 12;
  constexpr int kPasses = 10;
  constexpr double kBand = 4;
  double within = 0;
  double uncorrected = 0;
  for (std::uint64_t seed = 0; seed < kTrials; ++seed) {
    PhiloxStream random(seed, 21);
    const auto add_layer = [&](std::vector<PassResidual>& residuals) {
      const double layer = 0.1 * random.normal();
      for (int i = 0; i < kPasses; ++i) {
        residuals.push_back({100, kBand, 100 * std::exp(layer + 0.03 * random.normal())});
      }
    };
    std::vector<PassResidual> seen;
    std::vector<PassResidual> others;
    for (int i = 0; i < kLayers; ++i) add_layer(seen);
    add_layer(others);
    const auto share = [&](double error) {
      return static_cast<double>(std::ranges::count_if(others,
                                                       [&](const PassResidual& r) {
                                                         return std::abs(r.predicted_us - r.measured_us) <=
                                                                std::hypot(kBand, error * r.predicted_us);
                                                       })) /
             kPasses;
    };
    within += share(fit_pass_error(seen, kLayers)) / kTrials;
    uncorrected += share(fit_pass_error(seen, kManyLayers)) / kTrials;
  }
  EXPECT_GE(within, 0.683);
  EXPECT_LE(within, 0.683 + 1.0 / (kLayers + 1));
  EXPECT_LT(uncorrected, 0.683);
}

/// A host whose truth is its default parameters, or a multiple of what they say.
class Host {
 public:
  Host() { parameters_.relative_error.fill(0); }

  [[nodiscard]] const Cluster& cluster() const { return cluster_; }
  [[nodiscard]] const CostParameters& parameters() const { return parameters_; }

  [[nodiscard]] LayerStack stack(std::int64_t tokens, std::int64_t model_dim, const char* plan,
                                 Passes which = Passes::kForward) const {
    LayerStack stack{.workload = {.world = cluster_.world(),
                                  .num_experts = 4,
                                  .num_tokens = tokens,
                                  .capacity = tokens / 2,
                                  .top_k = 2,
                                  .model_dim = model_dim,
                                  .hidden_dim = 2 * model_dim},
                     .cluster = cluster_,
                     .passes = which};
    stack.forward = stack.backward = parse_plan(plan);
    return stack;
  }

  /// Of each operation, and of the pass as `pass_factor` times what these make of it.
  void measure(const LayerStack& stack, double operation_factor, double pass_factor) {
    const CostModel costs(cluster_, parameters_);
    PassSequence sequence;
    sequence.build(stack);
    for (const SimulatedPass& pass : sequence.passes()) {
      for (const Operation& operation : pass.schedule->operations) {
        CostSample sample = sample_of(*pass.schedule, operation, 0, cluster_.ranks_per_node);
        const double us = costs.roofline().duration_us(work_of(sample));
        sample.duration_ns = std::llround(us * operation_factor * 1e3);
        samples.push_back(sample);
      }
    }
    passes.push_back({stack, simulate(sequence.passes(), costs).total_us * pass_factor});
  }

  [[nodiscard]] CalibrationResult calibrated() const {
    return calibrate_with_passes(cluster_, samples, passes, parameters_);
  }

  std::vector<CostSample> samples;
  std::vector<PassSample> passes;

 private:
  Cluster cluster_ = load_cluster("cpu_host");
  CostParameters parameters_ = default_calibration(cluster_).parameters;
};

// Operations are predicted to some thousandths; passes take 1.25 times what is composed of them.
TEST(PassCalibration, FindsErrorsOfComposition) {
  Host host;
  for (const std::int64_t tokens : {256, 512, 1024, 2048}) {
    for (const Passes which : {Passes::kForward, Passes::kBackward}) {
      host.measure(host.stack(tokens, 128, "r1 d1 linear", which), 1, 1.25);
    }
  }
  const CalibrationResult result = host.calibrated();
  const PassFit& linear = result.passes[static_cast<std::size_t>(AllToAllAlgorithm::kLinear)];
  EXPECT_EQ(linear.num_passes, 8);
  EXPECT_NEAR(linear.median_error, 0.2, 0.01);
  EXPECT_EQ(linear.within_operations_band, 0);
  EXPECT_NEAR(result.parameters.pass_error(AllToAllAlgorithm::kLinear), 0.25, 0.01);
  EXPECT_THAT(result.kept, Not(Contains("pass_relative_error.linear")));
  // No pass had the other algorithm.
  EXPECT_EQ(result.parameters.pass_error(AllToAllAlgorithm::kHierarchical2d), 0);
  EXPECT_THAT(result.kept, Contains("pass_relative_error.2dh"));
  EXPECT_EQ(result.passes[static_cast<std::size_t>(AllToAllAlgorithm::kHierarchical2d)].num_passes, 0);
  // All else is what samples of operations alone give.
  CostParameters without = result.parameters;
  without.pass_relative_error.fill(0);
  EXPECT_EQ(without, calibrate(host.cluster(), host.samples, host.parameters()).parameters);
}

// One layer is three times as slow as others. By its own samples that would not show as much.
TEST(PassCalibration, PredictsALayerWithoutItsOwnSamples) {
  Host host;
  for (const std::int64_t tokens : {256, 512, 1024}) {
    host.measure(host.stack(tokens, 128, "r1 d1 linear"), 1, 1);
  }
  host.passes.clear();
  host.measure(host.stack(768, 192, "r1 d1 linear"), 3, 3);
  const CalibrationResult result = host.calibrated();
  const PassFit& linear = result.passes[static_cast<std::size_t>(AllToAllAlgorithm::kLinear)];
  EXPECT_NEAR(linear.median_error, 2.0 / 3, 0.01);
  EXPECT_NEAR(result.parameters.pass_error(AllToAllAlgorithm::kLinear), 2, 0.1);
}

// Nothing is left without them: then they count.
TEST(PassCalibration, OfOneLayerUsesItsOwnSamples) {
  Host host;
  host.measure(host.stack(512, 128, "r1 d1 linear"), 1, 1);
  const CalibrationResult result = host.calibrated();
  EXPECT_LT(result.passes[0].median_error, 0.01);
  EXPECT_LT(result.parameters.pass_error(AllToAllAlgorithm::kLinear), 0.01);
}

TEST(PassCalibration, SaysWhatCannotBe) {
  Host host;
  host.measure(host.stack(512, 128, "r1 d1 linear"), 1, 0);
  EXPECT_THAT(message_of<InputError>([&] { static_cast<void>(host.calibrated()); }),
              ::testing::StartsWith("a pass of 0 us that was predicted to take "));
  host.samples.clear();
  EXPECT_THAT(message_of<InputError>([&] { static_cast<void>(host.calibrated()); }),
              ::testing::StartsWith("none of 0 samples can be used"));
}

}  // namespace
}  // namespace flex::testing
