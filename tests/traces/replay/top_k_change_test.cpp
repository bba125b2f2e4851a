#include "traces/replay/top_k_change.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"
#include "tests/traces/replay/cases.h"

namespace flex {
namespace {

using testing::counts_of;
using ::testing::ElementsAre;

std::vector<std::int64_t> changed(const std::vector<std::int64_t>& row, std::int64_t k, std::int64_t new_k) {
  const auto experts = static_cast<std::int64_t>(row.size());
  return with_top_k(counts_of({row}), k, new_k, experts).dense(1, experts);
}

TEST(WithTopK, HalvesCounts) { EXPECT_THAT(changed({6, 4, 2, 0}, 2, 1), ElementsAre(3, 2, 1, 0)); }

// 3 tokens: shares 1.5, 1 and 0.5. One choice is left after rounding down; of equal remainders expert 0's.
TEST(WithTopK, RoundsTheLargestPartsUp) {
  EXPECT_THAT(changed({3, 2, 1}, 2, 1), ElementsAre(2, 1, 0));
  // 5 tokens, shares 5/3, 5/3 and 5/3 of one from three choices each; 3.33 of k = 2.
  EXPECT_THAT(changed({5, 5, 5}, 3, 2), ElementsAre(4, 3, 3));
}

TEST(WithTopK, DoublesCountsBelowTheNumberOfTokens) {
  EXPECT_THAT(changed({4, 3, 2, 1}, 1, 2), ElementsAre(8, 6, 4, 2));
}

// 10 tokens, each takes an expert once. Expert 0 would have 16: it has 10, and 10 choices are left for
// weights 1 and 1.
TEST(WithTopK, GivesWhatAnExpertCannotTakeToTheOthersInProportion) {
  EXPECT_THAT(changed({8, 1, 1}, 1, 2), ElementsAre(10, 5, 5));
  // Experts 0 and 1: 10 of 12 and 10 of 10.6; the 10 that are left go to experts 2 and 3 as 1 to 1.
  EXPECT_THAT(changed({4, 4, 1, 1}, 1, 3), ElementsAre(10, 10, 5, 5));
}

// 4 tokens at one expert: with k = 3 it has 4, the other 8 go to experts that had none.
TEST(WithTopK, SpreadsOverEmptyExpertsOnlyWhenTheOthersAreFull) {
  EXPECT_THAT(changed({0, 4, 0, 0}, 1, 3), ElementsAre(3, 4, 3, 2));
}

TEST(WithTopK, LeavesRowsOfOtherRanksApart) {
  const SparseCounts counts = with_top_k(counts_of({{2, 2}, {0, 0}, {3, 3}}), 2, 1, 2);
  EXPECT_THAT(counts.dense(3, 2), ElementsAre(1, 1, 0, 0, 2, 1)) << "twice 1.5 of 3: expert 0 first";
  EXPECT_EQ(counts.num_rows(), 2U);
}

TEST(WithTopK, SaysWhichKThereCanBe) {
  for (const std::int64_t k : {0, 5}) {
    try {
      static_cast<void>(changed({1, 1, 1, 1}, 1, k));
      FAIL() << k;
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()),
                "k is " + std::to_string(k) + "; with 4 experts it is from 1 to 4");
    }
  }
}

TEST(WithTopK, KeepsTokensAndNeverGivesATokenAnExpertTwice) {
  PhiloxStream random(11);
  for (int round = 0; round < 300; ++round) {
    const std::int64_t experts = 1 + random.below(12);
    const std::int64_t k = 1 + random.below(experts);
    const std::int64_t new_k = 1 + random.below(experts);
    const std::int64_t tokens = random.below(40);
    std::vector<std::int64_t> row(static_cast<std::size_t>(experts));
    for (std::int64_t choice = 0; choice < tokens * k;) {
      std::int64_t& count = row[static_cast<std::size_t>(random.below(experts))];
      if (count == tokens) continue;
      ++count;
      ++choice;
    }
    const std::vector<std::int64_t> result = changed(row, k, new_k);
    EXPECT_EQ(std::accumulate(result.begin(), result.end(), std::int64_t{0}), tokens * new_k);
    EXPECT_LE(*std::ranges::max_element(result), tokens);
    for (std::size_t a = 0; a < row.size(); ++a) {
      for (std::size_t b = 0; b < row.size(); ++b) {
        EXPECT_TRUE(row[a] <= row[b] || result[a] >= result[b]) << "popular experts stay popular";
      }
    }
  }
}

}  // namespace
}  // namespace flex
