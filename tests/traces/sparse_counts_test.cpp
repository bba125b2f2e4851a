#include "traces/sparse_counts.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using ::testing::ElementsAre;

TEST(SparseCounts, HoldsRowsOfSources) {
  const SparseCounts counts = testing::small_counts();
  ASSERT_EQ(counts.num_rows(), 2);
  EXPECT_EQ(counts.num_entries(), 6);
  EXPECT_EQ(counts.row(0).source, 0);
  EXPECT_THAT(counts.row(0).experts, ElementsAre(ExpertCount{0, 3}, ExpertCount{2, 3}));
  EXPECT_EQ(counts.row(1).source, 2);
  EXPECT_EQ(counts.row(1).experts.size(), 4);
}

TEST(SparseCounts, IsTheDenseTableWithoutZeros) {
  const std::vector<std::int64_t> dense = {3, 0, 3, 0, 0, 0, 0, 1};
  const SparseCounts counts = SparseCounts::from_dense(dense, 2);
  EXPECT_EQ(counts.num_rows(), 3) << "rank 2 has no row";
  EXPECT_EQ(counts.num_entries(), 3);
  EXPECT_EQ(counts.dense(4, 2), dense);
}

TEST(SparseCounts, DenseRoundTripsOfRandomTables) {
  PhiloxStream random(3);
  for (int i = 0; i < 50; ++i) {
    const std::int64_t world = 1 + random.below(9);
    const std::int64_t experts = 1 + random.below(40);
    std::vector<std::int64_t> dense(static_cast<std::size_t>(world * experts));
    for (std::int64_t& count : dense) count = std::max<std::int64_t>(0, random.below(9) - 5);
    EXPECT_EQ(SparseCounts::from_dense(dense, experts).dense(world, experts), dense);
  }
}

TEST(SparseCounts, ClearKeepsTheMemory) {
  SparseCounts counts = testing::small_counts();
  const std::size_t bytes = counts.allocated_bytes();
  EXPECT_GE(bytes, 6 * sizeof(ExpertCount));
  counts.clear();
  EXPECT_TRUE(counts.empty());
  EXPECT_EQ(counts.allocated_bytes(), bytes);
}

TEST(SparseCounts, RefusesWhatDoesNotFit) {
  EXPECT_EQ(message_of<InputError>([] { (void)SparseCounts::from_dense(std::vector<std::int64_t>(5), 2); }),
            "5 counts are not whole rows of 2 experts");
  EXPECT_EQ(message_of<InputError>([] {
              (void)SparseCounts::from_dense(std::vector<std::int64_t>{0, 0, 0, -7}, 2);
            }),
            "counts of rank 1: expert 1 has -7; a count is from 0 to 2147483647");
  EXPECT_EQ(message_of<InputError>([] { (void)testing::small_counts().dense(2, 8); }),
            "counts of rank 2: there are ranks 0 to 1");
  EXPECT_EQ(message_of<InputError>([] { (void)testing::small_counts().dense(4, 7); }),
            "counts of rank 2: expert 7 is none of 0 to 6");
  EXPECT_EQ(message_of<InputError>([] { (void)summarize(testing::small_counts(), 2); }),
            "counts of rank 0: expert 2 is none of 0 to 1");
}

// 10 choices over 8 experts, 1.25 for the mean one; the fullest has 3.
TEST(SparseCounts, SummaryIsThatOfTheLayer) {
  const CountSummary summary = summarize(testing::small_counts(), 8);
  EXPECT_EQ(summary.num_choices, 10);
  EXPECT_EQ(summary.needed_capacity, 3);
  EXPECT_EQ(summary.max_choices, 6);
  EXPECT_EQ(summary.fullest_expert, 3);
  EXPECT_DOUBLE_EQ(summary.max_over_mean, 2.4);
  EXPECT_DOUBLE_EQ(summarize({}, 8).max_over_mean, 1);
}

}  // namespace
}  // namespace flex
