#include <gmock/gmock.h>

#include <functional>
#include <set>

#include "tests/base/expect_error.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/key_fields.h"
#include "tuner/key_json.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using testing::key_at;
using testing::trial_of;

TEST(TuningCase, BucketsOfCapacityAreSteps) {
  EXPECT_EQ(capacity_bucket(0), 0);
  EXPECT_EQ(capacity_bucket(127), 0);
  EXPECT_EQ(capacity_bucket(128), 1);
  EXPECT_EQ(capacity_bucket(4096), 32);
  EXPECT_EQ(capacity_bucket(std::int64_t{1} << 60), 2'147'483'647);
  EXPECT_THAT(message_of<InputError>([] { (void)capacity_bucket(-1); }), HasSubstr("capacity is -1"));
}

// max / mean: 1, just below sqrt(2), above it, 2, 3, 4.
TEST(TuningCase, BucketsOfImbalanceAreStepsOfSqrt2) {
  EXPECT_EQ(imbalance_bucket(1), 0);
  EXPECT_EQ(imbalance_bucket(1.414), 0);
  EXPECT_EQ(imbalance_bucket(1.415), 1);
  EXPECT_EQ(imbalance_bucket(2), 2);
  EXPECT_EQ(imbalance_bucket(3), 3);
  EXPECT_EQ(imbalance_bucket(4), 4);
  EXPECT_THAT(message_of<InputError>([] { (void)imbalance_bucket(0.5); }), HasSubstr("is 0.5 of the mean"));
}

TEST(TuningCase, DefaultPlanKeepsTheGivenDegree) {
  EXPECT_EQ(default_plan({}), kDefaultPlan);
  EXPECT_EQ(to_string(default_plan({.pass = Pass::kBackward, .given_degree = 4})), "r4 d1 linear");
  EXPECT_EQ(to_string(default_plan({.pass = Pass::kBackward, .given_degree = 0})), "r0 d1 linear");
}

TEST(TuningKey, ComesFromAWorkloadAndACluster) {
  const Workload workload = {.world = 16,
                             .num_experts = 4,
                             .num_tokens = 777,
                             .capacity = 300,
                             .model_dim = 64,
                             .hidden_dim = 128,
                             .pass = Pass::kBackward,
                             .projection_dim = 99};
  const TunedLayer layer = layer_of(workload);
  EXPECT_EQ(layer.hidden_dim, 128);
  EXPECT_EQ(layer.projection_dim, 0) << "a linear gate has none";
  EXPECT_EQ(case_of(workload, 2.0, 4), (TuningCase{2, 2, Pass::kBackward, 4}));
  const TuningKey key = key_at(3, 2);
  EXPECT_EQ(layer_of(workload_of(key)), key.layer);
  EXPECT_EQ(case_of(workload_of(key), 2.0), key.one);
  EXPECT_EQ(workload_of(key).capacity, 511);
  Cluster cluster{.nodes = 2, .ranks_per_node = 8};
  cluster.device.name = "Device 9";
  const Environment environment = environment_of(cluster);
  EXPECT_EQ(environment.device, "Device 9");
  EXPECT_EQ(environment.world, 16);
}

// Every field counts: a key that differs in one has another id, and no two alike.
TEST(TuningKey, EveryFieldChangesTheId) {
  const TuningKey key = key_at(3);
  std::set<std::uint64_t> ids = {environment_id(key.environment)};
  std::size_t num_fields = 1;
  for_each_environment_field(key.environment, [&](const char* changed, const auto&) {
    Environment other = key.environment;
    for_each_environment_field(other, [&](const char* field, auto& value) {
      if (std::string_view(field) != changed) return;
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
        value += "x";
      } else {
        value += 1;
      }
    });
    ids.insert(environment_id(other));
    ++num_fields;
  });
  EXPECT_EQ(num_fields, 11);
  EXPECT_EQ(ids.size(), num_fields);

  std::set<std::uint64_t> layers = {layer_id(key.layer)};
  num_fields = 1;
  for_each_layer_field(key.layer, [&](const char* changed, const auto&) {
    TunedLayer other = key.layer;
    for_each_layer_field(other, [&](const char* field, auto& value) {
      if (std::string_view(field) != changed) return;
      using Field = std::decay_t<decltype(value)>;
      if constexpr (std::is_same_v<Field, bool>) {
        value = !value;
      } else {
        value = static_cast<Field>(static_cast<std::int64_t>(value) == 0 ? 1 : 0);
      }
    });
    layers.insert(layer_id(other));
    ++num_fields;
  });
  EXPECT_EQ(num_fields, 18);
  EXPECT_EQ(layers.size(), num_fields);
}

// Ids are in files and in broadcasts: they may never change.
TEST(TuningKey, IdsStayWhatTheyAre) {
  const TuningKey key = key_at(3);
  EXPECT_EQ(environment_id(key.environment), 13464580448533514128U);
  EXPECT_EQ(layer_id(key.layer), 8576412912527301262U);
  EXPECT_EQ(case_name(key), "fc865442e11a96cc");
}

TEST(Trial, SummaryIsTheLowerMedianAndItsDeviation) {
  // Median of 1 3 4 9: 3; distances 2 0 1 6, their median 1.
  Trial trial = trial_of("r1", {9, 1, 4, 3});
  EXPECT_EQ(trial.median_ns, 3);
  EXPECT_EQ(trial.spread_ns, 1);
  trial.samples_ns = {5};
  summarize(trial);
  EXPECT_EQ(trial.median_ns, 5);
  EXPECT_EQ(trial.spread_ns, 0);
}

TEST(Trial, IdIsOverWhatWasObserved) {
  const Trial trial = trial_of("r2 d4 2dh", {4, 5, 6});
  const std::uint64_t id = trial_id(key_at(1), trial);
  Trial travelled = trial;
  travelled.source = TrialSource::kImported;
  travelled.origin = "a file";
  EXPECT_EQ(trial_id(key_at(1), travelled), id);
  Trial other = trial;
  other.samples_ns = {4, 5, 7};
  EXPECT_NE(trial_id(key_at(1), other), id);
  EXPECT_NE(trial_id(key_at(2), trial), id);
}

TEST(Trial, WhatCannotBeIsNamed) {
  const auto message = [](const std::function<void(Trial&)>& change) {
    Trial trial = trial_of("r2 d4 2dh", {4, 5, 6});
    change(trial);
    return message_of<InputError>([&] { validate(trial); });
  };
  EXPECT_EQ(message([](Trial& t) { t.samples_ns[1] = 0; }),
            "trial of r2 d4 2dh: a sample is 0 ns; durations are above zero");
  EXPECT_EQ(message([](Trial& t) { t.samples_ns.clear(); }),
            "trial of r2 d4 2dh: its outcome is correct, but it has 0 sample(s)");
  EXPECT_EQ(message([](Trial& t) { t.outcome = TrialOutcome::kTimeout; }),
            "trial of r2 d4 2dh: its outcome is timeout, but it has 3 sample(s)");
  EXPECT_EQ(message([](Trial& t) { t.num_warmup = -1; }),
            "trial of r2 d4 2dh: a size, a count or a time is -1; it is zero or more");
  EXPECT_EQ(
      message([](Trial& t) { t.median_ns = 4; }),
      "trial of r2 d4 2dh: its median 4 ns and spread 1 ns are not 5 ns and 1 ns, those of its samples");
  EXPECT_EQ(message([](Trial& t) { t.plan.pipeline_degree = 0; }),
            "trial of r2 d0 2dh: r is 0 or more and d 1 or more");
}

TEST(Timestamp, RoundTrips) {
  EXPECT_EQ(timestamp_text(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(timestamp_text(1'795'512'600'000'000'001), "2026-11-24T09:30:00.000000001Z");
  for (const std::int64_t time : {std::int64_t{0}, std::int64_t{1'795'512'600'000'000'001}, now_ns()}) {
    EXPECT_EQ(parse_timestamp(timestamp_text(time)), time);
  }
  EXPECT_EQ(parse_timestamp("2026-11-24T09:30:00Z"), 1'795'512'600'000'000'000);
  EXPECT_EQ(parse_timestamp("2026-11-24T09:30:00.25Z"), 1'795'512'600'250'000'000);
  for (const char* bad :
       {"", "2026", "2026-11-24", "2026-11-24 09:30:00Z", "2026-13-24T09:30:00Z", "2026-02-30T09:30:00Z",
        "2026-11-24T24:30:00Z", "2026-11-24T09:30:00", "2026-11-24T09:30:00.Z",
        "2026-11-24T09:30:00.1234567890Z", "2026-11-24T09:30:00+1Z"}) {
    EXPECT_EQ(parse_timestamp(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace flex
