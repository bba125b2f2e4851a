#include "traces/reshard.h"

#include <gmock/gmock.h>

#include <numeric>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using testing::small_backward;
using testing::small_forward;
using testing::small_header;

std::vector<std::int64_t> by_expert(const SparseCounts& counts, std::int64_t num_experts) {
  std::vector<std::int64_t> sums(static_cast<std::size_t>(num_experts));
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    for (const ExpertCount& entry : counts.row(i).experts)
      sums[static_cast<std::size_t>(entry.expert)] += entry.choices;
  }
  return sums;
}

std::int64_t choices(const SparseCounts& counts) {
  const auto sums = by_expert(counts, kMaxTraceExperts);
  return std::accumulate(sums.begin(), sums.end(), std::int64_t{0});
}

// Rank 0's three tokens are all of experts 0 and 2: choices 000222, token t takes those at t and t + 3. Of
// two parts, one gets tokens 0 and 2, the other token 1.
TEST(Reshard, SplitDividesTheTokensOfARank) {
  const Resharder resharder(small_header(), {.world = 8});
  const SparseCounts counts = resharder.reshard(small_forward()).counts;
  const std::vector<std::int64_t> dense = counts.dense(8, 8);
  const auto row = [&](std::size_t rank) {
    return std::vector<std::int64_t>(dense.begin() + static_cast<std::ptrdiff_t>(8 * rank),
                                     dense.begin() + static_cast<std::ptrdiff_t>(8 * rank + 8));
  };
  EXPECT_EQ(row(0), (std::vector<std::int64_t>{2, 0, 2, 0, 0, 0, 0, 0}));
  EXPECT_EQ(row(1), (std::vector<std::int64_t>{1, 0, 1, 0, 0, 0, 0, 0}));
  // Rank 2's choices 1567: token 0 takes 1 and 6, token 1 takes 5 and 7.
  EXPECT_EQ(row(4), (std::vector<std::int64_t>{0, 1, 0, 0, 0, 0, 1, 0}));
  EXPECT_EQ(row(5), (std::vector<std::int64_t>{0, 0, 0, 0, 0, 1, 0, 1}));
}

TEST(Reshard, SplitJoinsNeighbours) {
  const Resharder resharder(small_header(), {.world = 1});
  const SparseCounts counts = resharder.reshard(small_forward()).counts;
  EXPECT_EQ(counts.dense(1, 8), (std::vector<std::int64_t>{3, 1, 3, 0, 0, 1, 1, 1}));
  EXPECT_EQ(resharder.header().layers[0].workload.num_tokens, 64) << "four times as many on a rank";
}

TEST(Reshard, TileRepeatsRanks) {
  const SparseCounts twice =
      Resharder(small_header(), {.world = 8, .policy = ReshardPolicy::kTile}).reshard(small_forward()).counts;
  ASSERT_EQ(twice.num_rows(), 4);
  EXPECT_EQ(twice.row(2).source, 4);
  EXPECT_EQ(twice.row(3).source, 6);
  const SparseCounts half =
      Resharder(small_header(), {.world = 2, .policy = ReshardPolicy::kTile}).reshard(small_forward()).counts;
  ASSERT_EQ(half.num_rows(), 1) << "rank 2 is not there any more";
  EXPECT_EQ(half.row(0).source, 0);
}

TEST(Reshard, HeaderSaysHow) {
  const Resharder resharder(
      small_header(),
      {.world = 16, .ranks_per_node = 8, .policy = ReshardPolicy::kResample, .seed = 3, .file = "run.jsonl"});
  const TraceHeader& header = resharder.header();
  EXPECT_EQ(header.world, 16);
  EXPECT_EQ(header.ranks_per_node, 8);
  EXPECT_EQ(header.layers[1].workload.world, 16);
  EXPECT_EQ(header.layers[1].workload.num_tokens, 16) << "as many on each rank";
  ASSERT_EQ(header.origins.size(), 2);
  EXPECT_EQ(header.origins[0], (TraceOrigin{.source = TraceSource::kResharded,
                                            .policy = "resample",
                                            .file = "run.jsonl",
                                            .world = 4,
                                            .seed = 3}));
  EXPECT_EQ(header.origins[1].source, TraceSource::kRecorded);
}

TEST(Reshard, PlansAndTimesOfOldRanksAreLeftOut) {
  const Resharder resharder(small_header(), {.world = 8});
  TraceRecord record = small_forward(3, 1);
  record.top_k = 2;
  record.capacity_factor = 1.5;
  const TraceRecord forward = resharder.reshard(record);
  EXPECT_EQ(forward.step, 3);
  EXPECT_EQ(forward.layer, 1);
  EXPECT_EQ(forward.top_k, 2);
  EXPECT_EQ(forward.capacity_factor, 1.5);
  EXPECT_FALSE(forward.plan);
  EXPECT_FALSE(forward.duration_ns);
  EXPECT_EQ(resharder.reshard(small_backward(3, 1)),
            (TraceRecord{.step = 3, .layer = 1, .pass = Pass::kBackward}));
}

TEST(Reshard, RefusesWhatCannotBe) {
  EXPECT_EQ(message_of<InputError>([] { Resharder resharder(small_header(), {.world = 6}); }),
            "split cannot lay 4 ranks on 6: one must divide the other; use tile or resample");
  EXPECT_EQ(message_of<InputError>(
                [] { Resharder resharder(small_header(), {.world = 6, .policy = ReshardPolicy::kTile}); }),
            "layers[0]: 8 experts do not spread over 6 ranks: one must divide the other");
  EXPECT_EQ(message_of<InputError>([] { Resharder resharder(small_header(), {.world = 0}); }),
            "0 ranks; there are 1 to 1048576");
  EXPECT_EQ(
      message_of<InputError>([] { Resharder resharder(small_header(), {.world = 8, .ranks_per_node = 3}); }),
      "ranks_per_node: is 3; it divides the 8 ranks");
  EXPECT_EQ(parse_reshard_policy("halve"), std::nullopt);
}

/// A random trace of one layer with `world` ranks.
struct RandomTrace {
  TraceHeader header;
  std::vector<TraceRecord> records;
};
RandomTrace random_trace(int world, PhiloxStream& random) {
  RandomTrace trace{.header = small_header()};
  trace.header.world = world;
  trace.header.ranks_per_node = 1;
  for (TraceLayer& layer : trace.header.layers) {
    layer.workload.world = world;
    layer.workload.num_experts = 32;
    layer.workload.top_k = 1 + random.below(6);
    layer.workload.num_tokens = random.below(60);
  }
  for (std::int64_t step = 0; step < 3; ++step) {
    TraceRecord record{.step = step};
    record.counts = testing::random_counts(trace.header.layers[0].workload, random);
    trace.records.push_back(std::move(record));
  }
  return trace;
}

// Counts of each expert stay equal; every result passes the reader's check; ranks differ by what rounding
// makes: a token, and for an expert two choices.
TEST(Reshard, SplitConservesTheTokensOfEveryExpert) {
  PhiloxStream random(21);
  for (int round = 0; round < 30; ++round) {
    const int world = 1 << random.below(4);
    const int new_world = 1 << random.below(6);
    const RandomTrace trace = random_trace(world, random);
    const Resharder resharder(trace.header, {.world = new_world});
    std::vector<TraceRecord> records;
    for (const TraceRecord& record : trace.records) {
      records.push_back(resharder.reshard(record));
      EXPECT_EQ(by_expert(records.back().counts, 32), by_expert(record.counts, 32));
    }
    const auto result = testing::read_and_check(testing::trace_text(resharder.header(), records));
    EXPECT_EQ(result.error, "") << world << " to " << new_world;
    if (new_world <= world) continue;
    const std::int64_t parts = new_world / world;
    const std::vector<std::int64_t> before = trace.records[0].counts.dense(world, 32);
    const std::vector<std::int64_t> after = records[0].counts.dense(new_world, 32);
    for (std::size_t at = 0; at < after.size(); ++at) {
      const std::size_t rank = at / 32 / static_cast<std::size_t>(parts);
      const auto even = static_cast<double>(before[rank * 32 + at % 32]) / static_cast<double>(parts);
      EXPECT_LT(std::abs(static_cast<double>(after[at]) - even), 2);
    }
  }
}

TEST(Reshard, SplittingAndJoiningGivesTheSame) {
  PhiloxStream random(22);
  const RandomTrace trace = random_trace(4, random);
  const Resharder split(trace.header, {.world = 32});
  const Resharder join(split.header(), {.world = 4});
  for (const TraceRecord& record : trace.records) {
    EXPECT_EQ(join.reshard(split.reshard(record)).counts, record.counts);
  }
}

TEST(Reshard, TileOfAMultipleHasThatManyTokens) {
  PhiloxStream random(23);
  const RandomTrace trace = random_trace(4, random);
  const Resharder resharder(trace.header, {.world = 16, .policy = ReshardPolicy::kTile});
  for (const TraceRecord& record : trace.records) {
    EXPECT_EQ(choices(resharder.reshard(record).counts), 4 * choices(record.counts));
  }
}

TEST(Reshard, ResampleKeepsTheTokensOfTheMeanRankAndTheDistribution) {
  PhiloxStream random(24);
  for (const int new_world : {1, 2, 32}) {
    RandomTrace trace = random_trace(4, random);
    const std::int64_t top_k = trace.header.layers[0].workload.top_k;
    const ReshardOptions options{.world = new_world, .policy = ReshardPolicy::kResample, .seed = 5};
    const Resharder resharder(trace.header, options);
    std::vector<TraceRecord> records;
    for (const TraceRecord& record : trace.records) {
      records.push_back(resharder.reshard(record));
      EXPECT_EQ(records.back(), resharder.reshard(record)) << "the same bits";
      EXPECT_EQ(choices(records.back().counts) / top_k, choices(record.counts) / top_k * new_world / 4);
    }
    EXPECT_EQ(testing::read_and_check(testing::trace_text(resharder.header(), records)).error, "");
  }
}

// A quarter of 40,000 draws of each of the first two experts: within 5 standard deviations.
TEST(Reshard, ResampleDrawsFromTheMean) {
  TraceHeader header = small_header();
  for (TraceLayer& layer : header.layers) layer.workload.top_k = 1;
  TraceRecord record;
  for (const std::int32_t source : {0, 1, 2, 3}) {
    record.counts.begin_row(source);
    record.counts.add(source % 2, 5'000);
    record.counts.add(2 + source, 5'000);
  }
  const ReshardOptions options{.world = 4, .policy = ReshardPolicy::kResample, .seed = 6};
  const SparseCounts counts = Resharder(header, options).reshard(record).counts;
  const auto sums = by_expert(counts, 8);
  EXPECT_EQ(choices(counts), 40'000);
  EXPECT_NEAR(static_cast<double>(sums[0]), 10'000, 5 * 87);
  EXPECT_NEAR(static_cast<double>(sums[5]), 5'000, 5 * 66);
  EXPECT_EQ(sums[6], 0);
  EXPECT_EQ(counts.num_rows(), 4);
  EXPECT_NE(counts.row(0).experts[0], counts.row(1).experts[0]) << "each rank draws by itself";
  const ReshardOptions other{.world = 4, .policy = ReshardPolicy::kResample, .seed = 7};
  EXPECT_NE(Resharder(header, other).reshard(record).counts, counts);
}

// Two experts and k = 2: each token takes both, whatever is drawn.
TEST(Reshard, ResampleGivesATokenAnExpertOnce) {
  TraceHeader header = small_header();
  for (TraceLayer& layer : header.layers) layer.workload.num_experts = 4;
  TraceRecord record;
  record.counts.begin_row(0);
  record.counts.add(0, 40);
  record.counts.add(3, 40);
  const ReshardOptions options{.world = 4, .policy = ReshardPolicy::kResample, .seed = 6};
  const SparseCounts counts = Resharder(header, options).reshard(record).counts;
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    for (const ExpertCount& entry : counts.row(i).experts) EXPECT_LE(entry.choices, 10);
  }
  EXPECT_EQ(choices(counts), 80);
}

}  // namespace
}  // namespace flex
