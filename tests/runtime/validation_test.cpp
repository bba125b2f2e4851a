#include "runtime/validation.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/error.h"
#include "costmodel/build_schedule.h"
#include "costmodel/plan_space.h"
#include "runtime/pass_trace.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

constexpr WorkRange kSmall{.min_flops = 1e5, .max_flops = 1e6};

ValidationSettings quick() {
  return {.num_pairs = 10,
          .num_calibration_shapes = 3,
          .range = kSmall,
          .seed = 5,
          .budget_s = 0,
          .min_rounds = 2};
}

/// Every operation takes as long as its kind: gate 1 us, and so on.
struct ByKind : OperationCosts {
  [[nodiscard]] OperationCost cost(const Schedule& schedule, std::size_t index,
                                   const RankLoad& /*load*/) const override {
    return {.duration_us = 1.0 + static_cast<double>(schedule.operations[index].kind), .relative_error = 0.1};
  }
  [[nodiscard]] OverlapSlowdown overlap(AllToAllAlgorithm /*algorithm*/) const override { return {}; }
};

TEST(LayerShapes, AreDrawnAlikeAndDifferent) {
  const auto shapes = draw_shapes(40, 2, {}, 7);
  EXPECT_EQ(draw_shapes(40, 2, {}, 7), shapes);
  EXPECT_NE(draw_shapes(40, 2, {}, 8), shapes);
  std::set<std::string> names;
  for (const LayerShape& shape : shapes) {
    names.insert(to_string(shape));
    EXPECT_NO_THROW(validate(workload_of(shape, DType::kF32, 2))) << to_string(shape);
  }
  EXPECT_EQ(names.size(), shapes.size());
  for (const LayerShape& shape : draw_shapes(40, 2, {}, 7, shapes))
    EXPECT_FALSE(names.contains(to_string(shape)));
}

TEST(LayerShapes, SayWhatCannotBe) {
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(draw_shapes(1, 0, {}, 1)); }),
            "1 shapes for 0 ranks; there are zero or more for at least one");
  EXPECT_EQ(message_of<InputError>(
                [] { static_cast<void>(draw_shapes(1, 2, {.min_flops = 5, .max_flops = 2}, 1)); }),
            "work from 5 to 2 operations; the first is above 0 and the second no less");
}

TEST(MeasuredPairs, AreAllPlansOfAShapeButTheLast) {
  const Cluster cluster = cluster_of(Topology{2, 2});
  const auto pairs = draw_pairs(25, cluster, DType::kF32, {}, 3);
  ASSERT_EQ(pairs.size(), 25U);
  for (std::size_t first = 0; first < pairs.size();) {
    const auto same = [&](const MeasuredPair& pair) { return pair.shape == pairs[first].shape; };
    const auto plans = PlanSpace(workload_of(pairs[first].shape, DType::kF32, 2), cluster).plans();
    const auto count = static_cast<std::size_t>(std::ranges::count_if(pairs, same));
    EXPECT_EQ(count, std::min(plans.size(), pairs.size() - first));
    std::set<Plan> seen;
    for (std::size_t i = first; i < first + count; ++i) seen.insert(pairs[i].plan);
    EXPECT_EQ(seen.size(), count);
    first += count;
  }
}

TEST(MeasuredPairs, AreSomePlansOfEachShapeWhereThatIsAsked) {
  const auto pairs = draw_pairs(11, cluster_of(Topology{4, 4}), DType::kF32, {}, 3, {}, 4);
  ASSERT_EQ(pairs.size(), 11U);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    EXPECT_EQ(pairs[i].shape, pairs[i / 4 * 4].shape);
    for (std::size_t j = i / 4 * 4; j < i; ++j) EXPECT_NE(pairs[i].plan, pairs[j].plan);
  }
  EXPECT_NE(pairs[4].shape, pairs[3].shape);
}

TEST(Validation, RecordsBothHalvesAndReadsThemBack) {
  const ValidationRun run = validate_prediction(quick());
  const ValidationRecording& recording = run.recording;
  EXPECT_EQ(recording.rounds, 2);
  ASSERT_EQ(run.report.passes.size(), recording.passes.size());
  EXPECT_EQ(run.report.passes.front().measured, recording.passes.front());
  ASSERT_EQ(recording.passes.size(), 20U);
  for (const MeasuredPass& measured : recording.passes) {
    EXPECT_GT(measured.median_us, 0);
    EXPECT_FALSE(measured.kinds.empty());
    const bool forward = measured.pass == Pass::kForward;
    EXPECT_EQ(std::ranges::count(measured.kinds, OperationKind::kEncode, &KindTime::kind), forward ? 1 : 0);
  }
  std::set<OperationKind> alone;
  bool beside = false;
  for (const CostSample& sample : recording.samples) {
    if (sample.beside == Beside::kNothing) alone.insert(sample.kind);
    beside = beside || sample.beside != Beside::kNothing;
  }
  for (const MeasuredPass& measured : recording.passes) {
    for (const KindTime& kind : measured.kinds) {
      if (kind.kind == OperationKind::kSumCopies) continue;  // only where ranks share an expert
      EXPECT_TRUE(alone.contains(kind.kind)) << name(kind.kind);
    }
  }
  EXPECT_TRUE(beside);
  // Three plans of each of three shapes, forward and backward, none of them to be predicted later.
  ASSERT_EQ(recording.calibration_passes.size(), 30U);
  for (const MeasuredPass& measured : recording.calibration_passes) {
    EXPECT_GT(measured.median_us, 0);
    EXPECT_TRUE(measured.kinds.empty());
    const auto same = [&](const MeasuredPass& other) { return other.pair.shape == measured.pair.shape; };
    EXPECT_TRUE(std::ranges::none_of(recording.passes, same));
  }

  const TemporaryDirectory directory;
  const auto file = directory.path() / "recording.json";
  write_validation_recording(file, recording);
  const ValidationRecording read = read_validation_recording(file);
  EXPECT_EQ(read.samples, recording.samples);
  ASSERT_EQ(read.passes.size(), recording.passes.size());
  for (std::size_t i = 0; i < read.passes.size(); ++i) {
    EXPECT_EQ(read.passes[i].pair, recording.passes[i].pair);
    EXPECT_EQ(read.passes[i].pass, recording.passes[i].pass);
    EXPECT_NEAR(read.passes[i].median_us, recording.passes[i].median_us, 0.051);  // a tenth is written
  }
  ASSERT_EQ(read.calibration_passes.size(), recording.calibration_passes.size());
  for (std::size_t i = 0; i < read.calibration_passes.size(); ++i) {
    EXPECT_EQ(read.calibration_passes[i].pair, recording.calibration_passes[i].pair);
    EXPECT_EQ(read.calibration_passes[i].pass, recording.calibration_passes[i].pass);
  }
}

// Two plans of one layer whose passes were measured as exactly what the costs make of them, but for one.
TEST(Validation, ComparesByHand) {
  const LayerShape shape{.num_tokens = 64, .model_dim = 16, .hidden_dim = 16, .num_experts = 2};
  ValidationRecording recording{.world = 2, .ranks_per_node = 2, .rounds = 1};
  for (const char* plan : {"r0 d1 linear", "r1 d2 linear"}) {
    recording.passes.push_back(
        {.pair = {shape, parse_plan(plan)}, .median_us = 1, .kinds = {{OperationKind::kGate, 4}}});
  }
  const Cluster cluster = cluster_of(recording);
  ValidationReport report = compare_with_execution(recording, cluster, ByKind());
  recording.passes[0].median_us = report.passes[0].predicted_us;
  recording.passes[1].median_us = report.passes[1].predicted_us * 2;
  report = compare_with_execution(recording, cluster, ByKind());
  EXPECT_DOUBLE_EQ(report.passes[0].relative_error(), 0);
  EXPECT_DOUBLE_EQ(report.passes[1].relative_error(), 0.5);
  EXPECT_DOUBLE_EQ(report.median_error, 0.25);
  EXPECT_DOUBLE_EQ(report.forward_error, 0.25);
  EXPECT_DOUBLE_EQ(report.backward_error, 0);  // there is none
  EXPECT_DOUBLE_EQ(report.within_band, 0.5);
  ASSERT_EQ(report.orders.size(), 1U);
  EXPECT_EQ(report.orders[0].num_plans, 2);
  ASSERT_EQ(report.kinds.size(), 1U);
  EXPECT_EQ(report.kinds[0].num_passes, 2);
  const double gate_us = 1.0 + static_cast<double>(OperationKind::kGate);
  EXPECT_DOUBLE_EQ(report.kinds[0].median_error, std::abs(gate_us - 4) / 4);
}

// Three layers whose passes were all measured as 1.25 times what their samples make of them: bands of the
// model hold that, and those of its operations alone do not.
TEST(Validation, BandsComeFromCalibrationPasses) {
  ValidationRecording recording{.world = 2, .ranks_per_node = 2, .rounds = 1};
  const Cluster cluster = cluster_of(recording);
  const CostModel truth = CostModel(cluster, default_calibration(cluster).parameters);
  for (const LayerShape& shape : draw_shapes(4, 2, kSmall, 3)) {
    const MeasuredPass pass{.pair = {shape, kDefaultPlan}, .median_us = 1};
    ValidationRecording one = recording;
    one.passes = {pass};
    MeasuredPass measured = pass;
    measured.median_us = 1.25 * compare_with_execution(one, cluster, truth).passes.front().predicted_us;
    (recording.passes.empty() ? recording.passes : recording.calibration_passes).push_back(measured);
    const Workload workload = workload_of(shape, DType::kF32, 2);
    for (const Part part : {Part::kRoute, Part::kExpert}) {
      const Schedule schedule = build_schedule(part, workload, kDefaultPlan, cluster);
      for (const Operation& operation : schedule.operations) {
        CostSample sample = sample_of(schedule, operation, 0, 2);
        sample.duration_ns = std::llround(1e3 * truth.roofline().duration_us(work_of(sample)));
        recording.samples.push_back(sample);
      }
    }
  }
  const CostModel costs = calibrated_costs(recording, cluster);
  EXPECT_NEAR(costs.pass_error(AllToAllAlgorithm::kLinear), 0.25, 0.02);
  const PassPrediction prediction = compare_with_execution(recording, cluster, costs).passes.front();
  EXPECT_NEAR(prediction.relative_error(), 0.2, 0.02);
  EXPECT_NEAR(prediction.band_us / prediction.predicted_us, 0.25, 0.03);
  recording.calibration_passes.clear();
  EXPECT_EQ(calibrated_costs(recording, cluster).pass_error(AllToAllAlgorithm::kLinear), 0);
}

TEST(Validation, SaysWhatCannotBe) {
  EXPECT_EQ(message_of<InputError>([] {
              static_cast<void>(compare_with_execution({}, cluster_of(ValidationRecording{}), ByKind()));
            }),
            "there is no pass to compare predictions with");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(record_validation({.world = 0})); }),
            "a validation of 60 pairs on 0 ranks after 12 shapes; each is at least 1");
}

TEST(ValidationRecording, ErrorsNameThePlace) {
  const TemporaryDirectory directory;
  const auto file = directory.path() / "r.json";
  const auto error_of = [&](const std::string& text) {
    std::ofstream(file) << text;
    const std::string message =
        message_of<InputError>([&] { static_cast<void>(read_validation_recording(file)); });
    return message.substr(message.find("r.json"));
  };
  const std::string head =
      R"("format":1,"device":"x","host_cores":2,"world":2,"ranks_per_node":2,"dtype":"fp32","seed":1,"rounds":1,)";
  EXPECT_EQ(error_of(R"({"format":7})"), "r.json: format: is 7; this program reads 1");
  EXPECT_EQ(error_of("{" + head + R"("samples":3,"passes":[]})"), "r.json: samples: is no list");
  EXPECT_EQ(error_of("{" + head + R"("samples":[3],"passes":[]})"),
            "r.json: samples: holds 3, which is no object");
  EXPECT_EQ(error_of("{" + head + R"("samples":[],"passes":[{"shape":{"tokens":0}}]})"),
            "r.json: passes[0].shape.tokens: is 0; it must be at least 1");
}

// A run of this pipeline on two cores of an Intel Xeon that others used at the same time: what it reported
// then it has to report again.
TEST(Validation, ReproducesARecordedRun) {
  const ValidationRecording recording = read_validation_recording(std::filesystem::path(FLEX_SOURCE_DIR) /
                                                                  "tests/runtime/data/validation_cpu.json");
  ASSERT_EQ(recording.passes.size(), 120U);
  for (const CostSample& sample : recording.samples) EXPECT_GT(sample.duration_ns, 0);
  const Cluster cluster = cluster_of(recording);
  const ValidationReport report =
      compare_with_execution(recording, cluster, calibrated_costs(recording, cluster));
  EXPECT_LE(report.median_error, 0.15);
  EXPECT_GE(report.mean_tau, 0.8);
  // A change of the cost model moves these figures; whoever makes one looks at them and writes the new ones
  // down.
  EXPECT_NEAR(report.median_error, 0.0951, 0.002);
  EXPECT_NEAR(report.mean_tau, 0.842, 0.01);
  EXPECT_NEAR(report.mean_regret, 0.0083, 0.002);
}

// The same of ranks on one NVIDIA H200, in bf16: what is asked of it is in docs/validation.md.
TEST(Validation, ReproducesRecordedRunsOnAGpu) {
  for (const int world : {1, 4}) {
    SCOPED_TRACE(world);
    const ValidationRun run = evaluate_validation(
        read_validation_recording(std::filesystem::path(FLEX_SOURCE_DIR) / "tests/runtime/data" /
                                  fmt::format("validation_gpu_w{}.json", world)),
        false);
    ASSERT_EQ(run.recording.passes.size(), 120U);
    EXPECT_LE(run.report.mean_error, 0.10);
    EXPECT_LE(run.report.mean_regret, 0.03);
    EXPECT_NEAR(run.report.mean_error, world == 1 ? 0.035 : 0.053, 0.002);
    EXPECT_NEAR(run.report.mean_tau, world == 1 ? 0.79 : 0.88, 0.015);
    // With four ranks the operations were timed in a way that mixed them: see the next case.
    EXPECT_LE(run.operations.compute_mean_error, world == 1 ? 0.06 : 0.15);
  }
}

// Why single operations of that recording, with four ranks on one device, are predicted so badly. It was made
// when an operation lasted from when the last rank was ready until the last was done, so that time in which
// the device had ranks' first layers counted as the second layer's if another rank still had that. What both
// products took together is right.
TEST(Validation, TheRecordingOfFourRanksSplitsItsProductsWrongly) {
  constexpr double kPeakFlops = 989e12;  // of an H200, dense bf16. @source its data sheet
  const ValidationRun run = evaluate_validation(read_validation_recording(
      std::filesystem::path(FLEX_SOURCE_DIR) / "tests/runtime/data/validation_gpu_w4.json"));
  const auto duration_us = [](const CostSample& sample) {
    return static_cast<double>(sample.duration_ns) * 1e-3;
  };
  const auto error_of = [](double predicted, double measured) {
    return std::abs(predicted - measured) / measured;
  };
  int num_impossible = 0;
  int num_pairs = 0;
  double first_error = 0;
  double sum_error = 0;
  for (const CostSample& first : run.recording.held_out) {
    if (first.kind != OperationKind::kExpertFfnBackwardFc1) continue;
    CostSample wanted = first;  // the other layer's gradients, of equal work
    wanted.kind = OperationKind::kExpertFfnBackwardFc2;
    const auto second = std::ranges::find_if(run.recording.held_out, [&](CostSample sample) {
      sample.duration_ns = wanted.duration_ns;
      sample.issue_ns = wanted.issue_ns;
      return sample == wanted;
    });
    ASSERT_NE(second, run.recording.held_out.end());
    ++num_pairs;
    const double both_us = duration_us(first) + duration_us(*second);
    const double flops_of_all_ranks = run.recording.world * first.flops;
    num_impossible += flops_of_all_ranks > kPeakFlops * duration_us(first) * 1e-6 ? 1 : 0;
    EXPECT_LT(2 * flops_of_all_ranks, kPeakFlops * both_us * 1e-6);
    const double first_us = run.costs.cost_of(work_of(first)).duration_us;
    const double second_us = run.costs.cost_of(work_of(*second)).duration_us;
    first_error += error_of(first_us, duration_us(first));
    sum_error += error_of(first_us + second_us, both_us);
  }
  ASSERT_EQ(num_pairs, 13);
  EXPECT_EQ(num_impossible, 3) << "faster than the card can be";
  EXPECT_GT(first_error / num_pairs, 0.3);
  EXPECT_LT(sum_error / num_pairs, 0.10) << "less than a third of that";
}

TEST(PassTrace, ShowsBothTimelinesOfOnePass) {
  const MeasuredPair pair{draw_shapes(1, 2, kSmall, 1).front(), parse_plan("r1 d2 linear")};
  const std::vector<Span> spans = trace_on_this_host(
      pair, {}, cluster_of(ValidationRecording{.world = 2, .ranks_per_node = 2}), ByKind());
  ASSERT_EQ(spans.size() % 2, 0U);
  const std::size_t half = spans.size() / 2;
  std::int64_t first_ns = INT64_MAX;
  for (std::size_t i = 0; i < half; ++i) {
    const Span& simulated = spans[i];
    const Span& measured = spans[half + i];
    EXPECT_EQ(simulated.process_group, "simulated");
    EXPECT_EQ(measured.process_group, "measured");
    EXPECT_EQ(simulated.name, measured.name);
    EXPECT_EQ(simulated.rank, measured.rank);
    EXPECT_EQ(simulated.stream, measured.stream);
    EXPECT_EQ(simulated.pass, measured.pass);
    EXPECT_EQ(simulated.operation, measured.operation);
    first_ns = std::min(first_ns, measured.begin_ns);
  }
  EXPECT_EQ(first_ns, 0);
}

}  // namespace
}  // namespace flex
