#include "traces/replay/plan_sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/philox.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/replay/cases.h"
#include "traces/trace_output.h"
#include "tuner/policy.h"

namespace flex {
namespace {

using testing::generated;

constexpr std::int64_t kSteps = 60;

const Cluster& cluster() {
  static const Cluster cluster = load_cluster("azure_ndv4_a100", 2);
  return cluster;
}

std::unique_ptr<PlanPolicy> new_policy(PolicyKind kind, const CostModel& costs) {
  return make_policy({.kind = kind}, {.cluster = cluster(), .costs = &costs});
}

/// A run as the runtime's AdaptiveLayers have it, on a machine that is slower between nodes than the model
/// says and jitters: two layers, forward and backward, what passes took being fed back before the next
/// forward pass of the layer. Returns its records, as a recorder would write them.
std::vector<TraceRecord> run_and_record(const IterationTrace& routing, PlanPolicy& policy) {
  Cluster slow = cluster();
  slow.inter_node.bandwidth_GBps *= 0.4;
  const CostModel machine = cost_model_of(slow);
  LoadSimulator simulator(slow, machine);
  PhiloxStream jitter(17);
  const auto measured_ns = [&](const ReplayLoad& load, const Plan& plan, Pass pass) {
    return std::llround(1e3 * simulator.duration_us(load, plan, pass) * std::exp(0.05 * jitter.normal()));
  };
  struct Last {
    LayerLoad load;
    PlanPair plans;
    PassDurations durations;
  };
  std::vector<std::optional<Last>> last(routing.header.layers.size());
  std::vector<TraceRecord> records;
  std::vector<TraceRecord> backwards;
  for (const TraceIteration& one : routing.iterations) {
    const auto layer = static_cast<std::size_t>(one.layer);
    if (layer == 0) {
      for (; !backwards.empty(); backwards.pop_back()) records.push_back(backwards.back());
    }
    if (last[layer]) policy.observe(one.layer, last[layer]->load, last[layer]->plans, last[layer]->durations);
    const ReplayLoad load{.load = replay_load(routing.layer_of(one), one.counts),
                          .counts = one.counts,
                          .has_even_tokens = false};
    const PlanPair plans = policy.choose(one.layer, load.load);
    const PassDurations durations{.forward_ns = measured_ns(load, plans.forward, Pass::kForward),
                                  .backward_ns = measured_ns(load, plans.backward, Pass::kBackward)};
    last[layer] = Last{load.load, plans, durations};
    records.push_back({.step = one.step,
                       .layer = one.layer,
                       .plan = plans.forward,
                       .duration_ns = durations.forward_ns,
                       .counts = one.counts});
    backwards.push_back({.step = one.step,
                         .layer = one.layer,
                         .pass = Pass::kBackward,
                         .plan = plans.backward,
                         .duration_ns = durations.backward_ns});
  }
  for (; !backwards.empty(); backwards.pop_back()) records.push_back(backwards.back());
  return records;
}

/// Through a file and back.
IterationTrace written_and_read(const TraceHeader& header, const std::vector<TraceRecord>& records) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "run.jsonl.gz";
  TraceOutput output(open_atomic(file), header);
  for (const TraceRecord& record : records) output.add(record);
  static_cast<void>(output.close(0));
  TraceReader reader(file);
  return read_iterations(reader);
}

class RecordedRun : public ::testing::TestWithParam<PolicyKind> {};

TEST_P(RecordedRun, ChoosesTheSamePlansAgain) {
  const IterationTrace routing = generated(ImbalanceWorkload::kDrift, kSteps);
  const CostModel costs = cost_model_of(cluster());
  const IterationTrace trace =
      written_and_read(routing.header, run_and_record(routing, *new_policy(GetParam(), costs)));
  const PlanSequenceCheck check = check_plan_sequence(trace, *new_policy(GetParam(), costs));
  EXPECT_EQ(check.num_compared, 2 * kSteps);
  EXPECT_TRUE(check.is_equal());
  EXPECT_FALSE(check.first);
}
INSTANTIATE_TEST_SUITE_P(Policies, RecordedRun,
                         ::testing::Values(PolicyKind::kDictionary, PolicyKind::kModel, PolicyKind::kOnline));

// So that the test above has something to say: plans change, and durations decide them.
TEST(RecordedRunCheck, FindsWhatDiffers) {
  const IterationTrace routing = generated(ImbalanceWorkload::kDrift, kSteps);
  const CostModel costs = cost_model_of(cluster());
  const IterationTrace trace =
      written_and_read(routing.header, run_and_record(routing, *new_policy(PolicyKind::kOnline, costs)));
  std::set<PlanPair> plans;
  for (const TraceIteration& one : trace.iterations) plans.insert(*one.plans());
  EXPECT_GT(plans.size(), 1U);

  IterationTrace other_times = trace;  // in which what ran first is slow
  const std::int32_t degree = trace.iterations.front().forward_plan->parallel_degree;
  for (TraceIteration& one : other_times.iterations) {
    if (one.forward_plan->parallel_degree != degree) continue;
    *one.forward_ns *= 9;
    *one.backward_ns *= 9;
  }
  EXPECT_FALSE(check_plan_sequence(other_times, *new_policy(PolicyKind::kOnline, costs)).is_equal());

  IterationTrace other_plans = trace;
  TraceIteration& changed = other_plans.iterations.back();
  changed.forward_plan = changed.backward_plan = parse_plan("r2 d8 linear");
  const PlanSequenceCheck check = check_plan_sequence(other_plans, *new_policy(PolicyKind::kOnline, costs));
  EXPECT_EQ(check.num_equal, check.num_compared - 1);
  ASSERT_TRUE(check.first);
  EXPECT_EQ(check.first->step, kSteps - 1);
  EXPECT_EQ(check.first->layer, 1);
  EXPECT_EQ(to_string(check.first->recorded), "r2 d8 linear");
  EXPECT_EQ(check.first->chosen, *trace.iterations.back().plans());
}

TEST(RecordedRunCheck, ComparesNothingWithoutPlans) {
  const CostModel costs = cost_model_of(cluster());
  EXPECT_EQ(
      check_plan_sequence(generated(ImbalanceWorkload::kDrift, 2), *new_policy(PolicyKind::kModel, costs))
          .num_compared,
      0);
}

}  // namespace
}  // namespace flex
