#include <gmock/gmock.h>

#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/tuner/cache_cases.h"
#include "tuner/key_fields.h"
#include "tuner/sqlite.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::fill;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kCompleteSearch;
using testing::key_at;
using testing::trial_of;
using testing::two_trials;

TEST(TuningCache, KeepsTrialsAndDecisions) {
  const TemporaryDirectory directory;
  const auto path = directory / "deep/er/tuning.db";
  std::optional<Decision> decision;
  Trial failed = trial_of("r4", {}, 5);
  failed.outcome = TrialOutcome::kTimeout;
  std::vector<Trial> trials = two_trials();
  trials.insert(trials.begin(), failed);
  {
    TuningCache cache = TuningCache::open(path);
    EXPECT_TRUE(cache.is_persistent());
    EXPECT_EQ(cache.path(), path);
    EXPECT_FALSE(cache.decision(key_at(1)));
    EXPECT_THAT(cache.trials(key_at(1)), IsEmpty());
    decision = cache.record(key_at(1), trials, kCompleteSearch);
    ASSERT_TRUE(decision);
    EXPECT_EQ(decision->plan, parse_plan("r2 d4 2dh"));
  }
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(cache.decision(key_at(1)), decision);
  EXPECT_EQ(cache.trials(key_at(1)).size(), 3);
  EXPECT_THAT(cache.trials(key_at(1)), ::testing::UnorderedElementsAreArray(trials));
  EXPECT_EQ(cache.trials(key_at(1)).front(), failed) << "from the oldest on";
  EXPECT_EQ(cache.num_bad_rows(), 0);
  EXPECT_THAT(cache.verify(), IsEmpty());
}

TEST(TuningCache, ATrialIsKeptOnce) {
  TuningCache cache = TuningCache::in_memory();
  EXPECT_FALSE(cache.is_persistent());
  EXPECT_EQ(cache.record(key_at(1), two_trials()), 2);
  EXPECT_EQ(cache.record(key_at(1), two_trials()), 0);
  EXPECT_EQ(cache.trials(key_at(1)).size(), 2);
  EXPECT_FALSE(cache.decision(key_at(1))) << "trials alone decide nothing";
}

TEST(TuningCache, RefusesTrialsThatCannotBe) {
  TuningCache cache = TuningCache::in_memory();
  std::vector<Trial> trials = two_trials();
  trials[1].median_ns = 1;
  EXPECT_THAT(message_of<InputError>([&] { cache.record(key_at(1), trials); }),
              HasSubstr("trial of r2 d4 2dh"));
  EXPECT_THAT(cache.trials(key_at(1)), IsEmpty()) << "nothing of what was refused is kept";
}

// Any other hardware, software, topology, layer, bucket or pass is a miss.
TEST(TuningCache, WhatDoesNotFitIsAMiss) {
  TuningCache cache = TuningCache::in_memory();
  const TuningKey key = key_at(5, 2);
  cache.record(key, two_trials(), kCompleteSearch);
  int num_fields = 0;
  for_each_environment_field(key.environment, [&](const char* changed, const auto&) {
    TuningKey other = key;
    for_each_environment_field(other.environment, [&](const char* field, auto& value) {
      if (std::string_view(field) != changed) return;
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
        value = "";
      } else {
        value += 1;
      }
    });
    EXPECT_FALSE(cache.decision(other)) << changed;
    EXPECT_THAT(cache.snapshot(other.environment).entries(), IsEmpty()) << changed;
    ++num_fields;
  });
  EXPECT_EQ(num_fields, 10);
  TuningKey other = key;
  other.layer.hidden_dim *= 2;
  EXPECT_FALSE(cache.decision(other));
  for (const TuningCase one : {TuningCase{4, 2}, TuningCase{5, 1}, TuningCase{5, 2, Pass::kBackward},
                               TuningCase{5, 2, Pass::kForward, 1}}) {
    other = key;
    other.one = one;
    EXPECT_FALSE(cache.decision(other));
    EXPECT_THAT(cache.trials(other), IsEmpty());
  }
  EXPECT_TRUE(cache.decision(key));
}

TEST(TuningCache, AnIncompleteSearchDoesNotReplaceACompleteOne) {
  TuningCache cache = TuningCache::in_memory();
  const SearchSummary incomplete = {.strategy = "random"};
  EXPECT_FALSE(cache.record(key_at(1), two_trials(), incomplete)->is_complete);
  const auto complete = cache.record(key_at(1), {}, kCompleteSearch);
  EXPECT_TRUE(complete->is_complete);
  const std::vector<Trial> faster = {trial_of("r4", {50})};
  EXPECT_EQ(cache.record(key_at(1), faster, incomplete), complete);
  EXPECT_EQ(cache.trials(key_at(1)).size(), 3) << "its trials are kept";
  EXPECT_EQ(cache.record(key_at(1), {}, kCompleteSearch)->plan, parse_plan("r4"));
}

TEST(TuningCache, WithoutTheDefaultPlanThereIsNoDecision) {
  TuningCache cache = TuningCache::in_memory();
  const std::vector<Trial> one = {trial_of("r4", {50})};
  EXPECT_FALSE(cache.record(key_at(1), one, kCompleteSearch));
  EXPECT_EQ(cache.trials(key_at(1)).size(), 1);
}

TEST(TuningCache, ASnapshotHoldsTheDecisionsOfOneEnvironment) {
  TuningCache cache = TuningCache::in_memory();
  fill(cache, 50);
  TuningKey other = key_at(7);
  other.environment.world = 32;
  cache.record(other, two_trials(), kCompleteSearch);
  const CacheSnapshot snapshot = cache.snapshot(key_at(0).environment);
  ASSERT_EQ(snapshot.entries().size(), 50);
  const auto* entry = snapshot.find(layer_id(key_at(0).layer), key_at(12, 1).one);
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->plan, parse_plan("r2 d4 2dh"));
  EXPECT_EQ(entry->median_ns, 200);
  EXPECT_EQ(entry->default_median_ns, 300);
  EXPECT_TRUE(entry->is_complete);
  EXPECT_EQ(cache.snapshot(other.environment).entries().size(), 1);
}

TEST(TuningCache, ListsItsCases) {
  TuningCache cache = TuningCache::in_memory();
  fill(cache, 3);
  cache.record(key_at(9), two_trials());
  const auto cases = cache.cases();
  ASSERT_EQ(cases.size(), 4);
  EXPECT_EQ(cases[1].key, key_at(0, 1));
  EXPECT_EQ(cases[1].num_trials, 2);
  EXPECT_EQ(cases[1].decision, cache.decision(key_at(0, 1)));
  EXPECT_EQ(cases[3].key, key_at(9));
  EXPECT_FALSE(cases[3].decision);
}

TEST(TuningCacheMerge, DerivesFromTheTrialsOfBoth) {
  TuningCache ours = TuningCache::in_memory();
  TuningCache theirs = TuningCache::in_memory();
  ours.record(key_at(1), two_trials(), kCompleteSearch);
  std::vector<Trial> more = two_trials();
  more.push_back(trial_of("r4", {150}));
  theirs.record(key_at(1), more, kCompleteSearch);
  theirs.record(key_at(2), two_trials(), {.strategy = "random"});
  const CacheMerge merge = ours.merge(theirs);
  EXPECT_EQ(merge.num_trials, 3);
  EXPECT_EQ(merge.num_decisions, 2);
  EXPECT_EQ(ours.decision(key_at(1))->plan, parse_plan("r4"));
  EXPECT_EQ(ours.decision(key_at(2)), theirs.decision(key_at(2)));
  EXPECT_EQ(ours.merge(theirs).num_trials, 0);
  EXPECT_EQ(ours.merge(theirs).num_decisions, 0) << "a second time changes nothing";
  EXPECT_THAT(ours.verify(), IsEmpty());
}

TEST(TuningCacheMerge, MeasurementsStandAgainstSimulations) {
  TuningCache ours = TuningCache::in_memory();
  TuningCache theirs = TuningCache::in_memory();
  ours.record(key_at(1), two_trials(), {.strategy = "random"});
  std::vector<Trial> simulated = {trial_of("r1", {30}), trial_of("r0", {10})};
  for (Trial& trial : simulated) trial.source = TrialSource::kSimulated;
  theirs.record(key_at(1), simulated, kCompleteSearch);
  ours.merge(theirs);
  EXPECT_EQ(ours.decision(key_at(1))->plan, parse_plan("r2 d4 2dh"));
  theirs.merge(ours);
  EXPECT_EQ(theirs.decision(key_at(1))->plan, parse_plan("r2 d4 2dh"));
}

TEST(TuningCachePrune, RemovesOldTrialsThatNothingRestsOn) {
  TuningCache cache = TuningCache::in_memory();
  std::vector<Trial> trials = two_trials();
  for (Trial& trial : trials) trial.measured_at_ns = 100;
  trials.push_back(trial_of("r4", {500}, 100));
  trials.push_back(trial_of("r8", {500}, 200));
  cache.record(key_at(1), trials, kCompleteSearch);
  EXPECT_EQ(cache.prune({}), 0);
  EXPECT_EQ(cache.prune({.trials_before_ns = 150}), 1);
  EXPECT_EQ(cache.trials(key_at(1)).size(), 3);
  EXPECT_THAT(cache.verify(), IsEmpty());
}

TEST(TuningCachePrune, RemovesOtherBuilds) {
  TuningCache cache = TuningCache::in_memory();
  TuningKey other = key_at(1);
  other.environment.build = "0.0.9";
  cache.record(key_at(1), two_trials(), kCompleteSearch);
  cache.record(other, two_trials(), kCompleteSearch);
  EXPECT_EQ(cache.prune({.only_build = "0.1.0"}), 3) << "two trials and a decision";
  EXPECT_FALSE(cache.decision(other));
  EXPECT_TRUE(cache.decision(key_at(1)));
  EXPECT_EQ(cache.cases().size(), 1);
  EXPECT_THAT(cache.verify(), IsEmpty());
}

// Changes a row behind the cache's back.
void tamper(const std::filesystem::path& path, const char* sql) {
  Database::open(path, Database::Access::kCreate).execute(sql);
}

TEST(TuningCacheChecksum, ABadRowIsAMissAndCounted) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  {
    TuningCache cache = TuningCache::open(path);
    fill(cache, 8);
  }
  tamper(path,
         "UPDATE decisions SET plan = 'r1 d8 linear' WHERE capacity_bucket = 1 AND imbalance_bucket = 2");
  tamper(path,
         "UPDATE trials SET median_ns = 1 WHERE capacity_bucket = 0 AND imbalance_bucket = 3 AND plan LIKE "
         "'r1%'");
  TuningCache cache = TuningCache::open(path);
  EXPECT_TRUE(cache.is_persistent());
  EXPECT_EQ(cache.snapshot(key_at(0).environment).entries().size(), 7);
  EXPECT_EQ(cache.num_bad_rows(), 1);
  EXPECT_FALSE(cache.decision(key_at(1, 2)));
  EXPECT_EQ(cache.trials(key_at(0, 3)).size(), 1);
  EXPECT_EQ(cache.num_bad_rows(), 3) << "one was met twice";
  EXPECT_THAT(cache.verify(), ElementsAre(HasSubstr("its decision rests on trial"),
                                          "2 row(s) whose checksum is wrong; they are not used"));
  // What is recorded again is right again.
  EXPECT_TRUE(cache.record(key_at(1, 2), {}, kCompleteSearch));
  EXPECT_EQ(cache.record(key_at(0, 3), two_trials()), 1);
  EXPECT_THAT(cache.verify(), IsEmpty());
}

TEST(TuningCacheChecksum, ABadEnvironmentOrLayerIsPutRightWhenItIsRecorded) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  {
    TuningCache cache = TuningCache::open(path);
    fill(cache, 2);
  }
  tamper(path, "UPDATE environments SET device = 'Device 8'; UPDATE layers SET top_k = 3");
  TuningCache cache = TuningCache::open(path);
  EXPECT_THAT(cache.cases(), IsEmpty());
  EXPECT_EQ(cache.num_bad_rows(), 2);
  EXPECT_TRUE(cache.decision(key_at(0, 1))) << "known by its id";
  cache.record(key_at(0), two_trials());
  EXPECT_EQ(cache.cases().size(), 2);
  EXPECT_THAT(cache.verify(), IsEmpty());
}

TEST(TuningCacheChecksum, PruningRemovesBadRows) {
  const TemporaryDirectory directory;
  const auto path = directory / "tuning.db";
  {
    TuningCache cache = TuningCache::open(path);
    fill(cache, 4);
    TuningKey other = key_at(1);
    other.environment.world = 3;
    cache.record(other, two_trials(), kCompleteSearch);
  }
  tamper(path, "UPDATE decisions SET median_ns = 1 WHERE imbalance_bucket = 2");
  tamper(path, "UPDATE environments SET device = 'x' WHERE world = 3");
  TuningCache cache = TuningCache::open(path);
  EXPECT_EQ(cache.prune({.bad_rows = true}), 4) << "a decision, and two trials and a decision of nowhere";
  EXPECT_THAT(cache.verify(), IsEmpty());
  EXPECT_EQ(cache.cases().size(), 4);
}

}  // namespace
}  // namespace flex
