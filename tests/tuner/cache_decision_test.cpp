#include <gtest/gtest.h>

#include "tests/tuner/cache_cases.h"

namespace flex {
namespace {

using testing::kCompleteSearch;
using testing::key_at;
using testing::trial_of;

std::optional<Decision> derive(const std::vector<Trial>& trials,
                               const SearchSummary& search = kCompleteSearch) {
  return derive_decision(key_at(1), trials, search, 5);
}

TEST(DeriveDecision, TakesTheFastestPlanAndSaysWhy) {
  const std::vector<Trial> trials = {trial_of("r1 d1 linear", {300}), trial_of("r2 d4 2dh", {200}),
                                     trial_of("r0", {250})};
  const auto decision = derive(trials);
  ASSERT_TRUE(decision);
  EXPECT_EQ(*decision, (Decision{.plan = parse_plan("r2 d4 2dh"),
                                 .source = TrialSource::kMeasured,
                                 .is_complete = true,
                                 .strategy = "exhaustive",
                                 .median_ns = 200,
                                 .default_median_ns = 300,
                                 .plan_trial = trial_id(key_at(1), trials[1]),
                                 .default_trial = trial_id(key_at(1), trials[0]),
                                 .num_trials = 3,
                                 .decided_at_ns = 5}));
}

TEST(DeriveDecision, NeedsATrialOfTheDefaultPlan) {
  EXPECT_FALSE(derive({trial_of("r2 d4 2dh", {200})}));
  EXPECT_FALSE(derive({}));
  Trial failed = trial_of("r1 d1 linear", {});
  failed.outcome = TrialOutcome::kTimeout;
  EXPECT_FALSE(derive({failed, trial_of("r2 d4 2dh", {200})}));
}

TEST(DeriveDecision, TheDefaultPlanWinsTies) {
  EXPECT_EQ(derive({trial_of("r1 d1 linear", {200}), trial_of("r0", {200})})->plan, kDefaultPlan);
  EXPECT_EQ(derive({trial_of("r1 d1 linear", {200}), trial_of("r0", {201})})->plan, kDefaultPlan);
  // Then the smaller plan.
  EXPECT_EQ(
      to_string(derive({trial_of("r1", {200}), trial_of("r2 d2", {100}), trial_of("r1 d2", {100})})->plan),
      "r1 d2 linear");
}

TEST(DeriveDecision, TheLatestTrialOfAPlanCounts) {
  const auto decision =
      derive({trial_of("r1", {300}, 1), trial_of("r0", {100}, 1), trial_of("r0", {400}, 2)});
  EXPECT_EQ(decision->plan, kDefaultPlan);
  EXPECT_EQ(decision->num_trials, 2);
}

TEST(DeriveDecision, APlanThatFailedIsNoCandidate) {
  Trial failed = trial_of("r0", {});
  failed.outcome = TrialOutcome::kRuntime;
  const auto decision = derive({trial_of("r1", {300}), failed});
  EXPECT_EQ(decision->plan, kDefaultPlan);
  EXPECT_EQ(decision->num_trials, 1);
}

// A simulated 10 ns says nothing beside a measured 300.
TEST(DeriveDecision, ComparesTrialsOfOneSourceAndTrustsMeasurements) {
  Trial simulated = trial_of("r0", {10});
  simulated.source = TrialSource::kSimulated;
  Trial simulated_default = trial_of("r1", {20});
  simulated_default.source = TrialSource::kSimulated;
  const Trial measured = trial_of("r2", {290});
  const Trial measured_default = trial_of("r1", {300}, 1);
  EXPECT_EQ(to_string(derive({simulated, simulated_default, measured, measured_default})->plan),
            "r2 d1 linear");
  EXPECT_EQ(to_string(derive({simulated, simulated_default, measured})->plan), "r0 d1 linear")
      << "no measured default";
}

// The bucket is wide: 10 ns with half the tokens is no gain.
TEST(DeriveDecision, ComparesTrialsOfOneLoad) {
  Trial small = trial_of("r0", {10});
  small.capacity = 2049;
  EXPECT_EQ(derive({trial_of("r1", {300}), trial_of("r2", {200}), small})->plan, parse_plan("r2"));
  small.capacity = 2048;
  small.num_tokens = 5;
  EXPECT_EQ(derive({trial_of("r1", {300}), trial_of("r2", {200}), small})->plan, parse_plan("r2"));
}

TEST(DeriveDecision, TheSearchMayChooseAPlanThatItTried) {
  SearchSummary search = kCompleteSearch;
  search.plan = parse_plan("r0");
  const std::vector<Trial> trials = {trial_of("r1", {300}), trial_of("r2", {200}), trial_of("r0", {250})};
  EXPECT_EQ(derive(trials, search)->plan, parse_plan("r0"));
  EXPECT_EQ(derive(trials, search)->median_ns, 250);
  search.plan = parse_plan("r4");
  EXPECT_FALSE(derive(trials, search));
}

TEST(DeriveDecision, ABackwardPassIsComparedWithItsOwnDefault) {
  TuningKey key = key_at(1);
  key.one.pass = Pass::kBackward;
  key.one.given_degree = 2;
  EXPECT_FALSE(derive_decision(key, std::vector{trial_of("r1", {300}), trial_of("r2 d2", {200})}, {}, 0));
  const auto decision =
      derive_decision(key, std::vector{trial_of("r2", {300}), trial_of("r2 d2", {200})}, {}, 0);
  EXPECT_EQ(decision->plan, parse_plan("r2 d2"));
  EXPECT_FALSE(decision->is_complete);
}

TEST(MayReplace, OnlyBySourceThenByCompleteness) {
  const Decision incomplete = {};
  Decision complete = {};
  complete.is_complete = true;
  Decision simulated = complete;
  simulated.source = TrialSource::kSimulated;
  EXPECT_TRUE(may_replace(incomplete, incomplete));
  EXPECT_TRUE(may_replace(incomplete, complete));
  EXPECT_FALSE(may_replace(complete, incomplete));
  EXPECT_FALSE(may_replace(incomplete, simulated));
  EXPECT_TRUE(may_replace(simulated, incomplete));
}

}  // namespace
}  // namespace flex
