#include "costmodel/calibration.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/philox.h"
#include "costmodel/build_schedule.h"
#include "costmodel/operation_roofline.h"
#include "costmodel/plan_space.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

/// How samples are made.
struct Synthetic {
  double noise = 0;     ///< standard deviation of the logarithm
  double outliers = 0;  ///< part of the samples that take 3 to 10 times as long
  int num_schedules = 60;
};

std::int64_t power_of_two(PhiloxStream& random, int low, int high) {
  return std::int64_t{1} << (low + random.below(high - low + 1));
}

Schedule random_schedule(PhiloxStream& random, const Cluster& cluster) {
  const int world = cluster.world();
  Workload w{.world = world,
             .num_experts = world * power_of_two(random, 0, 2),
             .num_tokens = power_of_two(random, 7, 13),
             .top_k = 2,
             .model_dim = power_of_two(random, 6, 11),
             .hidden_dim = power_of_two(random, 6, 12)};
  if (world > 1 && random.below(3) == 0) w.num_experts = world / 2;
  w.top_k = std::min(w.top_k, w.num_experts);
  w.capacity = std::max<std::int64_t>(1, w.top_k * w.num_tokens / w.num_experts);
  w.pass = random.below(2) == 0 ? Pass::kForward : Pass::kBackward;
  const std::vector<Plan> plans = PlanSpace(w, cluster).plans();
  const Part part = w.pass == Pass::kForward && random.below(4) == 0 ? Part::kRoute : Part::kExpert;
  return build_schedule(
      part, w, plans[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(plans.size())))],
      cluster);
}

std::int64_t noisy_ns(PhiloxStream& random, double us, const Synthetic& how) {
  double factor = std::exp(how.noise * random.normal());
  if (random.uniform() < how.outliers) factor *= 3 + 7 * random.uniform();
  return std::max<std::int64_t>(1, std::llround(1e3 * us * factor));
}

std::vector<CostSample> samples_of(const Cluster& cluster, const CostParameters& truth, std::uint64_t seed,
                                   const Synthetic& how) {
  const OperationRoofline roofline(cluster, truth);
  PhiloxStream random(seed);
  std::vector<CostSample> samples;
  for (int i = 0; i < how.num_schedules; ++i) {
    const Schedule schedule = random_schedule(random, cluster);
    for (const Operation& operation : schedule.operations) {
      CostSample sample = sample_of(schedule, operation, 0, cluster.ranks_per_node);
      sample.duration_ns = noisy_ns(random, roofline.duration_us(work_of(sample)), how);
      samples.push_back(sample);
    }
  }
  return samples;
}

/// Random parameters, up to three times from the generic ones.
CostParameters random_truth(PhiloxStream& random, const CostParameters& generic) {
  const auto near = [&](double& value) { value *= std::pow(3.0, 2 * random.uniform() - 1); };
  CostParameters p = generic;
  near(p.compute.matrix_efficiency);
  near(p.compute.half_efficiency_rows);
  near(p.compute.memory_efficiency);
  near(p.compute.strided_copy_efficiency);
  near(p.compute.launch_us);
  near(p.intra_node.bandwidth_efficiency);
  near(p.intra_node.collective_us);
  near(p.intra_node.message_us);
  near(p.inter_node.bandwidth_efficiency);
  near(p.inter_node.collective_us);
  near(p.inter_node.message_us);
  near(p.host_synchronize_us);
  return p;
}

/// Largest |fitted / true - 1| of predictions over random operations.
double worst_prediction(const Cluster& cluster, const CostParameters& fitted, const CostParameters& truth,
                        std::uint64_t seed) {
  const OperationRoofline predicted(cluster, fitted);
  double worst = 0;
  for (const CostSample& sample : samples_of(cluster, truth, seed, {})) {
    const double us = static_cast<double>(sample.duration_ns) / 1e3;
    worst = std::max(worst, std::abs(predicted.duration_us(work_of(sample)) / us - 1));
  }
  return worst;
}

void expect_near_factor(double actual, double expected, double tolerance, const char* what) {
  EXPECT_NEAR(actual / expected, 1, tolerance) << what;
}

TEST(CalibrationProperty, RecoversParametersOfTwoRanksOfAHost) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    PhiloxStream random(seed, 3);
    const CostParameters truth = random_truth(random, start);
    const CalibrationResult result = calibrate(cluster, samples_of(cluster, truth, seed, {}), start);
    const CostParameters& p = result.parameters;
    SCOPED_TRACE(seed);
    // Durations are whole nanoseconds; those of a few hundred are rounded by some thousandths.
    constexpr double kTolerance = 0.02;
    expect_near_factor(p.compute.matrix_efficiency, truth.compute.matrix_efficiency, kTolerance, "matrix");
    expect_near_factor(p.compute.half_efficiency_rows, truth.compute.half_efficiency_rows, kTolerance,
                       "rows");
    expect_near_factor(p.compute.memory_efficiency, truth.compute.memory_efficiency, kTolerance, "memory");
    expect_near_factor(p.compute.strided_copy_efficiency, truth.compute.strided_copy_efficiency, kTolerance,
                       "strided");
    expect_near_factor(p.compute.launch_us, truth.compute.launch_us, kTolerance, "launch");
    expect_near_factor(p.intra_node.bandwidth_efficiency, truth.intra_node.bandwidth_efficiency, kTolerance,
                       "bandwidth");
    EXPECT_LT(worst_prediction(cluster, p, truth, seed + 100), kTolerance);
  }
}

TEST(CalibrationProperty, NoiseAndOutliersMoveItLittle) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    PhiloxStream random(seed, 4);
    const CostParameters truth = random_truth(random, start);
    const std::vector<CostSample> samples =
        samples_of(cluster, truth, seed, {.noise = 0.05, .outliers = 0.1, .num_schedules = 100});
    const CalibrationResult result = calibrate(cluster, samples, start);
    SCOPED_TRACE(seed);
    expect_near_factor(result.parameters.compute.matrix_efficiency, truth.compute.matrix_efficiency, 0.1,
                       "matrix");
    expect_near_factor(result.parameters.compute.memory_efficiency, truth.compute.memory_efficiency, 0.1,
                       "memory");
    EXPECT_LT(worst_prediction(cluster, result.parameters, truth, seed + 100), 0.15);
    // The band is what held-out samples show: the noise, widened by one outlier in ten.
    const KindFit& fit = result.of(OperationKind::kExpertFfn);
    EXPECT_GT(fit.num_samples, 30);
    EXPECT_GT(fit.band, 0.03);
    EXPECT_LT(fit.band, 0.12);
    EXPECT_EQ(result.parameters.error_of(OperationKind::kExpertFfn), fit.band);
  }
}

TEST(CalibrationProperty, RecoversLinksBetweenNodesAndTheirContention) {
  std::vector<CostSample> samples;
  CostParameters start = default_calibration(load_cluster("azure_ndv4_a100", 2)).parameters;
  start.inter_node.contention_exponent = 1.5;
  PhiloxStream random(5);
  CostParameters truth = random_truth(random, start);
  truth.inter_node.contention_peers = 300;
  for (const int nodes : {2, 8, 32, 128}) {
    const Cluster cluster = load_cluster("azure_ndv4_a100", nodes);
    const std::vector<CostSample> some =
        samples_of(cluster, truth, static_cast<std::uint64_t>(nodes), {.noise = 0.03, .num_schedules = 40});
    samples.insert(samples.end(), some.begin(), some.end());
  }
  const CalibrationResult result = calibrate(load_cluster("azure_ndv4_a100", 2), samples, start);
  const LinkParameters& link = result.parameters.inter_node;
  expect_near_factor(link.bandwidth_efficiency, truth.inter_node.bandwidth_efficiency, 0.1, "bandwidth");
  expect_near_factor(link.message_us, truth.inter_node.message_us, 0.1, "message");
  expect_near_factor(link.contention_peers, truth.inter_node.contention_peers, 0.2, "contention");
  expect_near_factor(result.parameters.compute.matrix_efficiency, truth.compute.matrix_efficiency, 0.1,
                     "matrix");
}

TEST(Calibration, AKindThatFollowsItsOwnLineGetsIt) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  CostParameters truth = start;
  const auto route = static_cast<std::size_t>(OperationKind::kRoute);
  truth.kinds[route] = {.fixed_us = 35, .time_factor = 12};
  const CalibrationResult result =
      calibrate(cluster, samples_of(cluster, truth, 1, {.noise = 0.02, .num_schedules = 150}), start);
  EXPECT_TRUE(result.of(OperationKind::kRoute).own_parameters);
  ASSERT_TRUE(result.parameters.kinds[route].has_value());
  expect_near_factor(result.parameters.kinds[route]->fixed_us, 35, 0.1, "fixed");
  EXPECT_LT(result.of(OperationKind::kRoute).band, 0.05);
}

TEST(Calibration, SaysWhatHadNoSamples) {
  const Cluster cluster = load_cluster("one_h200");
  const CostParameters start = calibration_of(cluster).parameters;
  std::vector<CostSample> samples = samples_of(cluster, start, 1, {.num_schedules = 80});
  std::erase_if(samples, [](const CostSample& s) { return s.kind == OperationKind::kDecode; });
  const CalibrationResult result = calibrate(cluster, samples, start);
  EXPECT_THAT(result.kinds_without_samples(), ::testing::Contains(OperationKind::kDecode));
  EXPECT_THAT(result.kinds_without_samples(), ::testing::Contains(OperationKind::kAllToAll));
  EXPECT_THAT(result.kinds_without_samples(), ::testing::Not(::testing::Contains(OperationKind::kEncode)));
  EXPECT_EQ(result.parameters.error_of(OperationKind::kDecode), CostParameters::kUnknownError);
  EXPECT_LT(result.parameters.error_of(OperationKind::kEncode), 0.01);
  // One rank exchanges nothing.
  for (const char* key : {"inter_node.message_us", "inter_node.contention_peers", "intra_node.message_us",
                          "compute.strided_copy_efficiency", "overlap_2dh.communication_factor"}) {
    EXPECT_THAT(result.kept, ::testing::Contains(key));
  }
  EXPECT_THAT(result.kept, ::testing::Not(::testing::Contains("compute.matrix_efficiency")));
  EXPECT_EQ(result.parameters.inter_node, start.inter_node);
}

TEST(Calibration, OverlapFromPairs) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  std::vector<CostSample> samples = samples_of(cluster, start, 2, {.num_schedules = 80});
  const std::size_t alone = samples.size();
  for (std::size_t i = 0; i < alone; ++i) {
    CostSample beside = samples[i];
    double factor = 0;
    if (beside.kind == OperationKind::kExpertFfn) {
      beside.beside = Beside::kCommunication;
      factor = beside.algorithm == AllToAllAlgorithm::kLinear ? 1.7 : 1.4;
    } else if (beside.kind == OperationKind::kAllToAll) {
      beside.beside = Beside::kCompute;
      factor = 0.9;  // faster than alone, by chance: no speed-up is believed
    } else {
      continue;
    }
    beside.duration_ns = std::llround(static_cast<double>(beside.duration_ns) * factor);
    samples.push_back(beside);
  }
  const CalibrationResult result = calibrate(cluster, samples, start);
  EXPECT_NEAR(result.parameters.linear.compute, 1.7, 0.01);
  EXPECT_NEAR(result.parameters.hierarchical.compute, 1.4, 0.01);
  EXPECT_EQ(result.parameters.linear.communication, 1);
  EXPECT_EQ(result.parameters.hierarchical.communication, start.hierarchical.communication);
  EXPECT_THAT(result.kept, ::testing::Contains("overlap_2dh.communication_factor"));
  EXPECT_EQ(result.num_samples, static_cast<std::int64_t>(alone));
  EXPECT_EQ(result.num_overlap_samples, static_cast<std::int64_t>(samples.size() - alone));
}

// The mean of 6 and 10 us for encode, that of nothing for decode, and nothing from what ran beside others.
TEST(Calibration, WhatTheHostNeedsIsAMeanByKind) {
  const Cluster cluster = load_cluster("one_h200");
  std::vector<CostSample> samples = {
      {.kind = OperationKind::kEncode, .bytes = 1 << 20, .duration_ns = 9000, .issue_ns = 6000},
      {.kind = OperationKind::kEncode, .bytes = 1 << 24, .duration_ns = 90000, .issue_ns = 10000},
      {.kind = OperationKind::kDecode, .bytes = 1 << 20, .duration_ns = 9000},
      {.kind = OperationKind::kDecode,
       .bytes = 1 << 20,
       .beside = Beside::kCommunication,
       .duration_ns = 9000,
       .issue_ns = 7000}};
  CostParameters start = default_calibration(cluster).parameters;
  start.issue_us[static_cast<std::size_t>(OperationKind::kDecode)] = 4;
  const CostParameters fitted = calibrate(cluster, samples, start).parameters;
  EXPECT_DOUBLE_EQ(fitted.issue_us[static_cast<std::size_t>(OperationKind::kEncode)], 8);
  EXPECT_DOUBLE_EQ(fitted.issue_us[static_cast<std::size_t>(OperationKind::kDecode)], 4);
  EXPECT_DOUBLE_EQ(fitted.issue_us[static_cast<std::size_t>(OperationKind::kRoute)], 0);
}

TEST(Calibration, TheOrderOfSamplesDoesNotMatter) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  std::vector<CostSample> samples = samples_of(cluster, start, 3, {.noise = 0.1, .num_schedules = 30});
  const CostParameters one = calibrate(cluster, samples, start).parameters;
  std::ranges::reverse(samples);
  EXPECT_EQ(calibrate(cluster, samples, start).parameters, one);
}

TEST(Calibration, BecomesAFile) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  const CalibrationResult result =
      calibrate(cluster, samples_of(cluster, start, 4, {.noise = 0.1, .num_schedules = 30}), start);
  const Calibration calibration = to_calibration(result, cluster, "a test");
  EXPECT_TRUE(calibration.fitted);
  EXPECT_EQ(calibration.cluster, "cpu_host");
  const Calibration again = parse_calibration(to_json(calibration).dump(), "again.json");
  EXPECT_EQ(again.parameters, result.parameters);
  EXPECT_EQ(again.source, "a test");
}

TEST(Calibration, RefusesWhatItCannotUse) {
  const Cluster cluster = load_cluster("cpu_host");
  const CostParameters start = default_calibration(cluster).parameters;
  const std::vector<CostSample> useless(2);
  EXPECT_EQ(message_of<InputError>([&] { static_cast<void>(calibrate(cluster, useless, start)); }),
            "none of 2 samples can be used: a calibration needs operations that were measured alone and took "
            "more than 0 ns");
  EXPECT_EQ(message_of<InputError>(
                [&] { static_cast<void>(calibrate(cluster, useless, start, {.num_folds = 1})); }),
            "1 folds; at least 2 hold samples out");
  EXPECT_EQ(message_of<InputError>(
                [&] { static_cast<void>(calibrate(cluster, useless, start, {.huber_threshold = 0})); }),
            "a Huber threshold of 0; it is above 0");
  EXPECT_EQ(message_of<InputError>(
                [&] { static_cast<void>(calibrate(cluster, useless, start, {.min_kind_samples = 1})); }),
            "parameters of a kind from 1 samples; it takes at least 2");
}

}  // namespace
}  // namespace flex::testing
