#include "runtime/trace_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <tuple>

#include "base/error.h"
#include "runtime/launch.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/runtime/recorded_world.h"

/// What is read back from a recording is what the layers saw.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

// Two ranks, k = 2. Rank 0: tokens at experts 0 1, 0 2 and 0 1; rank 1: one token at 3 0.
const std::vector<std::vector<std::int64_t>> kPairs = {{0, 1, 0, 2, 0, 1}, {3, 0}};
const std::vector<std::int64_t> kPairCounts = {3, 2, 1, 0, 1, 0, 0, 1};
// The same, k = 1. Rank 0: experts 2, 2; rank 1: nothing.
const std::vector<std::vector<std::int64_t>> kSingles = {{2, 2}, {}};
const std::vector<std::int64_t> kSingleCounts = {0, 0, 2, 0, 0, 0, 0, 0};

const ForwardCall kFixed{.top_k = 2, .capacity_factor = 1};
const ForwardCall kDropless{.top_k = 1, .capacity_factor = 0};

Plan plan_of(std::int64_t step, std::int64_t layer) {
  return {.parallel_degree = 1, .pipeline_degree = static_cast<std::int32_t>(1 + (step + layer) % 2)};
}

/// The policy that runs plan_of() forward, and one part backward.
ScriptedPolicy scripted() {
  return ScriptedPolicy(
      [asked = std::array<std::int64_t, 2>{}](std::int64_t layer, const LayerLoad&) mutable {
        return PlanPair{plan_of(asked[static_cast<std::size_t>(layer)]++, layer), {}};
      });
}

void expect_forward(const TraceRecord& record, std::int64_t step, std::int32_t layer, const Plan& plan,
                    const std::vector<std::int64_t>& counts) {
  EXPECT_EQ(record.step, step);
  EXPECT_EQ(record.layer, layer);
  EXPECT_EQ(record.pass, Pass::kForward);
  EXPECT_EQ(record.plan, plan);
  EXPECT_GT(record.duration_ns, 0);
  EXPECT_EQ(record.counts.dense(2, kRecordedExperts), counts);
}

void expect_backward(const TraceRecord& record, std::int64_t step, std::int32_t layer, const Plan& plan) {
  EXPECT_EQ(record.step, step);
  EXPECT_EQ(record.layer, layer);
  EXPECT_EQ(record.pass, Pass::kBackward);
  EXPECT_EQ(record.plan, plan);
  EXPECT_GT(record.duration_ns, 0);
}

// With f = 1 expert 0 has 2 * 3 / 4 slots, 2, for 3 choices of rank 0: one is dropped, and three are
// recorded.
TEST(TraceRecorder, RecordsLayersUnderAPolicy) {
  const TemporaryDirectory directory;
  constexpr std::int64_t kSteps = 5;
  std::vector<ScriptedPolicy::Told> told;
  run_ranks({2, 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const auto rank = static_cast<std::size_t>(world.rank());
    TraceRecorder recorder(directory / "run.jsonl", header_of(2, {kFixed, kDropless}), context);
    ScriptedPolicy policy = scripted();
    MoeLayer first(recorded_config(), context);
    MoeLayer second(recorded_config(), context);
    AdaptiveLayer adaptive_first(first, policy, 0, context, &recorder);
    AdaptiveLayer adaptive_second(second, policy, 1, context, &recorder);
    KnownTokens pairs(kPairs[rank], 2, first);
    KnownTokens singles(kSingles[rank], 1, second);
    Stream stream(Device::cpu());
    for (std::int64_t step = 0; step < kSteps; ++step) {
      ForwardCall call = kFixed;
      call.training = step != 3;
      if (step == 1) call.capacity_factor = -1;  // dropless up to the same two slots
      EXPECT_EQ(run_passes(adaptive_first, pairs, call, stream).capacity, 2);
      EXPECT_EQ(first.num_dropped_blocking(), world.rank() == 0 ? 1 : 0);
      EXPECT_EQ(run_passes(adaptive_second, singles, kDropless, stream).capacity, 2);
    }
    recorder.finish_blocking();
    const std::optional<TraceTrailer> trailer = recorder.close();
    EXPECT_EQ(trailer.has_value(), world.rank() == 0);
    if (rank == 0) told = policy.told;
  });

  const Recording recording = read_recording(directory / "run.jsonl");
  EXPECT_EQ(recording.header, header_of(2, {kFixed, kDropless}));
  ASSERT_EQ(recording.records.size(), 4 * kSteps - 1);
  EXPECT_EQ(recording.trailer, (TraceTrailer{.num_records = 4 * kSteps - 1, .num_dropped = 0}));
  std::size_t at = 0;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const TraceRecord& forward = recording.records[at];
    expect_forward(recording.records[at++], step, 0, plan_of(step, 0), kPairCounts);
    EXPECT_EQ(workload_of(recording.header, forward, Pass::kForward).capacity, 2);
    // Dropless: of 7 choices that are kept expert 0 has 3, the mean one 7 / 4.
    EXPECT_DOUBLE_EQ(load_of(recording.header, forward).max_over_mean, step == 1 ? 12.0 / 7 : 1);
    if (step != 3) expect_backward(recording.records[at++], step, 0, {});
    expect_forward(recording.records[at++], step, 1, plan_of(step, 1), kSingleCounts);
    expect_backward(recording.records[at++], step, 1, {});
  }
  // The policy was told of all but the last step; times and loads are those of the records.
  ASSERT_EQ(told.size(), 2 * (kSteps - 1));
  at = 0;
  for (const ScriptedPolicy::Told& one : told) {
    const TraceRecord& forward = recording.records[at++];
    EXPECT_EQ(forward.layer, one.layer);
    EXPECT_EQ(forward.duration_ns, one.durations.forward_ns);
    const LayerLoad load = load_of(recording.header, forward);
    EXPECT_EQ(load.workload, one.load.workload);
    EXPECT_EQ(load.max_over_mean, one.load.max_over_mean);
    if (one.durations.backward_ns == 0) continue;
    EXPECT_EQ(recording.records[at++].duration_ns, one.durations.backward_ns);
  }
}

// Four ranks with 4, 3, 2 and no tokens; each token of rank r at experts r and r + 1, or at r alone.
TEST(TraceRecorder, RecordsAPlainLayerWithRaggedTokensAndCallsThatChange) {
  const TemporaryDirectory directory;
  const ForwardCall usual{.top_k = 2, .capacity_factor = 1.0};
  run_ranks({4, 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    TraceRecorder recorder(directory / "run.jsonl.gz", header_of(4, {usual}), context);
    MoeLayer layer(recorded_config(), context);
    RecordedLayer recorded(layer, recorder, 0, context);
    const std::int64_t rank = world.rank();
    const std::int64_t num_tokens = rank == 3 ? 0 : 4 - rank;
    std::vector<std::int64_t> pairs;
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      pairs.insert(pairs.end(), {rank, (rank + 1) % kRecordedExperts});
    }
    KnownTokens two(pairs, 2, layer);
    KnownTokens one(std::vector<std::int64_t>(static_cast<std::size_t>(num_tokens), rank), 1, layer);
    Stream stream(Device::cpu());
    const Plan plan = parse_plan("r1 d2 2dh");
    ForwardCall call = usual;
    call.plans = {plan, plan};
    run_passes(recorded, two, call, stream);
    run_passes(recorded, one, {.top_k = 1, .capacity_factor = 0}, stream);
    run_passes(recorded, one, {.top_k = 1, .capacity_factor = 1.0}, stream);
    EXPECT_EQ(layer.num_dropped_blocking(), num_tokens == 0 ? 0 : num_tokens - 1) << "C is 1";
    recorder.finish_blocking();
    recorder.close();
  });

  const Recording recording = read_recording(directory / "run.jsonl.gz");
  ASSERT_EQ(recording.records.size(), 6);
  const std::vector<std::int64_t> of_two = {4, 4, 0, 0, 0, 3, 3, 0, 0, 0, 2, 2, 0, 0, 0, 0};
  const std::vector<std::int64_t> of_one = {4, 0, 0, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0};
  EXPECT_EQ(recording.records[0].counts.dense(4, kRecordedExperts), of_two);
  EXPECT_EQ(recording.records[0].counts.num_rows(), 3) << "rank 3 has no row";
  EXPECT_EQ(recording.records[0].plan, parse_plan("r1 d2 2dh"));
  EXPECT_EQ(recording.records[1].plan, parse_plan("r1 d2 2dh"));
  EXPECT_EQ(recording.records[0].top_k, std::nullopt) << "the header has it";
  EXPECT_EQ(recording.records[0].capacity_factor, std::nullopt);
  for (const std::size_t at : {2, 4}) {
    EXPECT_EQ(recording.records[at].counts.dense(4, kRecordedExperts), of_one);
    EXPECT_EQ(recording.records[at].plan, kDefaultPlan);
    EXPECT_EQ(recording.records[at].top_k, 1);
  }
  EXPECT_EQ(recording.records[2].capacity_factor, 0);
  EXPECT_EQ(recording.records[4].capacity_factor, std::nullopt);
}

TEST(TraceRecorder, CountsAreOnTheHostWhereTheCallAsks) {
  run_ranks({2, 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(recorded_config(), context);
    const auto rank = static_cast<std::size_t>(world.rank());
    KnownTokens tokens(kPairs[rank], 2, layer);
    Stream stream(Device::cpu());
    const auto run = [&](ForwardCall call) {
      run_passes(layer, tokens, call, stream);
      stream.synchronize_blocking();
    };
    run(kFixed);
    EXPECT_TRUE(layer.host_counts().empty());
    EXPECT_TRUE(layer.source_counts().empty());
    const std::vector<std::int32_t> own = {kPairCounts.begin() + 4 * world.rank(),
                                           kPairCounts.begin() + 4 * world.rank() + 4};
    run({.top_k = 2, .capacity_factor = 1, .keep_counts = true});
    EXPECT_EQ(std::vector(layer.host_counts().begin(), layer.host_counts().end()), own);
    EXPECT_TRUE(layer.source_counts().empty());
    run({.top_k = 2, .capacity_factor = 0});
    EXPECT_EQ(std::vector(layer.host_counts().begin(), layer.host_counts().end()), own);
    EXPECT_EQ(std::vector(layer.source_counts().begin(), layer.source_counts().end()), kPairCounts);
    run(kFixed);
    EXPECT_TRUE(layer.source_counts().empty()) << "not those of the pass before";
  });
}

// Layer 1 runs in every third step only, layer 0 twice in the last: a step of its own.
TEST(TraceRecorder, LayersMaySitStepsOut) {
  const TemporaryDirectory directory;
  run_ranks({2, 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    TraceRecorder recorder(directory / "run.jsonl", header_of(2, {kFixed, kDropless}), context);
    MoeLayer first(recorded_config(), context);
    MoeLayer second(recorded_config(), context);
    RecordedLayer recorded_first(first, recorder, 0, context);
    RecordedLayer recorded_second(second, recorder, 1, context);
    const auto rank = static_cast<std::size_t>(world.rank());
    KnownTokens pairs(kPairs[rank], 2, first);
    KnownTokens singles(kSingles[rank], 1, second);
    Stream stream(Device::cpu());
    for (int step = 0; step < 7; ++step) {
      run_passes(recorded_first, pairs, {.top_k = 2, .training = false}, stream);
      if (step % 3 == 0) {
        run_passes(recorded_second, singles, {.top_k = 1, .capacity_factor = 0, .training = false}, stream);
      }
    }
    run_passes(recorded_first, pairs, {.top_k = 2, .training = false}, stream);
    recorder.finish_blocking();
    recorder.close();
  });
  std::vector<std::pair<std::int64_t, std::int32_t>> order;
  for (const TraceRecord& record : read_recording(directory / "run.jsonl").records) {
    order.emplace_back(record.step, record.layer);
    EXPECT_EQ(record.counts.dense(2, kRecordedExperts), record.layer == 0 ? kPairCounts : kSingleCounts);
  }
  using At = std::pair<std::int64_t, std::int32_t>;
  EXPECT_THAT(order, ElementsAre(At{0, 0}, At{0, 1}, At{1, 0}, At{2, 0}, At{3, 0}, At{3, 1}, At{4, 0},
                                 At{5, 0}, At{6, 0}, At{6, 1}, At{7, 0}));
}

/// Records `steps` steps of one adaptive layer on two ranks; before each, `before` is called.
Recording record_adaptive(int steps, const std::function<void(int, int rank, ScriptedPolicy&)>& before) {
  const TemporaryDirectory directory;
  run_ranks({2, 1}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    TraceRecorder recorder(directory / "run.jsonl", header_of(2, {kFixed}), context);
    ScriptedPolicy policy = scripted();
    MoeLayer layer(recorded_config(), context);
    AdaptiveLayer adaptive(layer, policy, 0, context, &recorder);
    KnownTokens tokens(kPairs[static_cast<std::size_t>(world.rank())], 2, layer);
    Stream stream(Device::cpu());
    for (int step = 0; step < steps; ++step) {
      before(step, world.rank(), policy);
      run_passes(adaptive, tokens, kFixed, stream);
    }
    recorder.finish_blocking();
    recorder.close();
  });
  return read_recording(directory / "run.jsonl");
}

TEST(TraceRecorder, PinnedPlansAreRecordedWithTheirTimes) {
  setenv("FLEX_PLAN", "r1 d2 2dh", 1);
  const Recording recording = record_adaptive(4, [](int, int, ScriptedPolicy&) {});
  unsetenv("FLEX_PLAN");
  ASSERT_EQ(recording.records.size(), 8);
  for (std::int64_t step = 0; step < 4; ++step) {
    const auto at = static_cast<std::size_t>(2 * step);
    expect_forward(recording.records[at], step, 0, parse_plan("r1 d2 2dh"), kPairCounts);
    expect_backward(recording.records[at + 1], step, 0, parse_plan("r1 d2 2dh"));
  }
}

TEST(TraceRecorder, GoesOnWhenPoliciesDisagree) {
  ::testing::internal::CaptureStderr();
  const Recording recording = record_adaptive(6, [](int step, int rank, ScriptedPolicy& policy) {
    if (step == 3 && rank == 1) policy.hash = 2;
  });
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), ::testing::HasSubstr("in different states"));
  ASSERT_EQ(recording.records.size(), 12);
  for (std::int64_t step = 0; step < 6; ++step) {
    const auto at = static_cast<std::size_t>(2 * step);
    expect_forward(recording.records[at], step, 0, step < 3 ? plan_of(step, 0) : kDefaultPlan, kPairCounts);
    expect_backward(recording.records[at + 1], step, 0, kDefaultPlan);
  }
}

TEST(TraceRecorder, SaysWhatCannotBe) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::function<void(RankContext&)>& call) {
    return message_of<InputError>([&] {
      run_ranks({1, 1}, 60s, [&](Communicator& world) {
        RankContext context(world, Device::cpu());
        call(context);
      });
    });
  };
  const std::filesystem::path file = directory / "run.jsonl";
  EXPECT_EQ(message([&](RankContext& context) { TraceRecorder(file, header_of(2, {kFixed}), context); }),
            "the header of a recording is for 2 ranks; the job has 1");
  EXPECT_EQ(message([&](RankContext& context) { TraceRecorder(nullptr, header_of(1, {kFixed}), context); }),
            "rank 0: rank 0 alone writes a recording");
  const auto attach = [&](std::int64_t index, std::int64_t model_dim, int times) {
    return message([&, times](RankContext& context) {
      TraceRecorder recorder(file, header_of(1, {kFixed}), context);
      MoeConfig config = recorded_config();
      config.model_dim = model_dim;
      MoeLayer layer(config, context);
      const PassTimers timers(context.device());
      for (int i = 0; i < times; ++i) recorder.attach(index, layer, timers);
    });
  };
  EXPECT_EQ(attach(1, 128, 1), "layer 1 is not in the header of the recording, which has 1 layers");
  EXPECT_EQ(attach(-1, 128, 1), "layer -1 is not in the header of the recording, which has 1 layers");
  EXPECT_EQ(attach(0, 128, 2), "layer 0 is recorded already");
  EXPECT_EQ(attach(0, 64, 1),
            "layer 0 is not as the header of the recording has it: 4 experts, M = 128, H = 8, fp32");
  EXPECT_THROW(run_ranks({2, 1}, 60s,
                         [&](Communicator& world) {
                           RankContext context(world, Device::cpu());
                           TraceRecorder("/nowhere/run.jsonl", header_of(2, {kFixed}), context);
                           std::array<std::int64_t, 2> all{};
                           context.control().gather_host_blocking(std::array<std::int64_t, 1>{}, all);
                         }),
               FileError);
}

}  // namespace
}  // namespace flex::testing
