#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "costmodel/cost_model.h"
#include "runtime/launch.h"
#include "runtime/local_cluster.h"
#include "runtime/policy_benchmark.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/runtime/recorded_world.h"
#include "tuner/policy.h"

/// A recorded run has all that its policy decided from: a policy of the same settings that is given the same
/// loads and durations decides the same.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

const Topology kTopology{.world = 2, .ranks_per_node = 2};

/// A policy of the given kind with what it needs; alike on all ranks and here. The online one trusts its
/// model little and tries plans in up to half of the time, so that many run.
struct Policy {
  Cluster cluster = local_cluster(kTopology, Device::cpu(), 2);
  CostModel costs = cost_model_of(cluster);
  std::unique_ptr<PlanPolicy> policy;

  explicit Policy(PolicyKind kind)
      : policy(make_policy({.kind = kind}, {.cluster = cluster,
                                            .costs = &costs,
                                            .online = {.exploration_share = 0.5, .candidate_error = 0.5}})) {}
};

/// Asks and tells `policy` as AdaptiveLayer does, and expects the recorded plans of it.
void expect_same_plans(const Recording& recording, PlanPolicy& policy) {
  struct Last {
    LayerLoad load;
    PlanPair plans;
    PassDurations durations;
  };
  std::vector<std::optional<Last>> last(recording.header.layers.size());
  std::set<PlanPair> plans;
  for (std::size_t at = 0; at < recording.records.size(); at += 2) {
    const TraceRecord& forward = recording.records[at];
    const TraceRecord& backward = recording.records[at + 1];
    ASSERT_EQ(backward.pass, Pass::kBackward);
    auto& before = last[static_cast<std::size_t>(forward.layer)];
    if (before) policy.observe(forward.layer, before->load, before->plans, before->durations);
    const LayerLoad load = load_of(recording.header, forward);
    const PlanPair ran = {*forward.plan, *backward.plan};
    ASSERT_EQ(policy.choose(forward.layer, load), ran) << "step " << forward.step;
    before = Last{load, ran, {*forward.duration_ns, *backward.duration_ns}};
    plans.insert(ran);
  }
  EXPECT_GE(plans.size(), 3) << "a run of one plan shows nothing";
}

TEST(RecordedPolicy, DecidesTheSameFromTheRecording) {
  const TemporaryDirectory directory;
  const PolicyBenchmark benchmark{.config = {.model_dim = 32, .hidden_dim = 32, .num_experts = 8},
                                  .num_tokens = 64,
                                  .top_k = 2,
                                  .iterations = 80,
                                  .drift = 3};
  for (const PolicyKind kind : {PolicyKind::kOnline, PolicyKind::kDictionary}) {
    const std::filesystem::path file = directory / (std::string(name(kind)) + ".jsonl.gz");
    run_ranks(kTopology, 60s, [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      Policy mine(kind);
      const TraceLayer layer = trace_layer_of(benchmark.config, forward_call_of(benchmark), 64, 2);
      TraceRecorder recorder(file, recorded_header("a test", {layer}, context), context);
      const PolicyComparison comparison = compare_policies(
          benchmark, {{"policy", [&] { return std::move(mine.policy); }, {}}}, context, {}, &recorder);
      EXPECT_FALSE(comparison.runs[0].disagreed);
      recorder.close();
    });
    const Recording recording = read_recording(file);
    EXPECT_NE(recording.header.hardware, "");
    ASSERT_EQ(recording.records.size(), 160);
    EXPECT_EQ(recording.trailer->num_dropped, 0);
    Policy fresh(kind);
    expect_same_plans(recording, *fresh.policy);
  }
}

// Two layers that share a policy, one with a fixed capacity and drops, and tokens that drift.
TEST(RecordedPolicy, DecidesTheSameForLayersThatShareIt) {
  const TemporaryDirectory directory;
  const ForwardCall fixed{.top_k = 1, .capacity_factor = 0.5};
  const ForwardCall dropless{.top_k = 1, .capacity_factor = 0};
  TraceHeader header = header_of(2, {fixed, dropless});
  header.ranks_per_node = 2;
  run_ranks(kTopology, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Policy mine(PolicyKind::kDictionary);
    TraceRecorder recorder(directory / "run.jsonl", header, context);
    MoeLayer first(recorded_config(), context);
    MoeLayer second(recorded_config(), context);
    AdaptiveLayer adaptive_first(first, *mine.policy, 0, context, &recorder);
    AdaptiveLayer adaptive_second(second, *mine.policy, 1, context, &recorder);
    Stream stream(Device::cpu());
    PhiloxStream random(9, static_cast<std::uint64_t>(world.rank()));
    for (int step = 0; step < 40; ++step) {
      std::vector<std::int64_t> choices(static_cast<std::size_t>(100 + random.below(200)));
      for (std::int64_t& choice : choices) choice = random.below(1 + step % kRecordedExperts);
      KnownTokens tokens(choices, 1, first);
      KnownTokens same(choices, 1, second);
      run_passes(adaptive_first, tokens, fixed, stream);
      run_passes(adaptive_second, same, dropless, stream);
      stream.synchronize_blocking();
    }
    recorder.finish_blocking();
    recorder.close();
  });
  const Recording recording = read_recording(directory / "run.jsonl");
  ASSERT_EQ(recording.records.size(), 160);
  Policy fresh(PolicyKind::kDictionary);
  expect_same_plans(recording, *fresh.policy);
}

TEST(RecordedPolicy, OneFileHoldsOneRun) {
  const PolicyBenchmark benchmark{.config = recorded_config(), .num_tokens = 3};
  EXPECT_EQ(message_of<InputError>([&] {
              run_ranks({1, 1}, 60s, [&](Communicator& world) {
                RankContext context(world, Device::cpu());
                const TemporaryDirectory directory;
                TraceRecorder recorder(directory / "run.jsonl", header_of(1, {{.top_k = 1}}), context);
                static_cast<void>(compare_policies(benchmark, {{}, {}}, context, {}, &recorder));
              });
            }),
            "the run of one policy is recorded; here are 2 policies");
}

}  // namespace
}  // namespace flex::testing
