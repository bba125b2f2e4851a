#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/moe/route.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

// 10 tokens over 4 experts: ceil(10 / 4) = 3 tokens per expert.
TEST(ExpertCapacity, PositiveFactorFloorsBeforeTheProductWithTopK) {
  EXPECT_EQ(expert_capacity(2, 1.0, 10, 4, 99), 6);
  EXPECT_EQ(expert_capacity(2, 1.5, 10, 4, 99), 8);   // 2 * floor(4.5), not floor(9)
  EXPECT_EQ(expert_capacity(3, 1.25, 10, 4, 99), 9);  // 3 * floor(3.75), not floor(11.25)
  EXPECT_EQ(expert_capacity(2, 0.25, 10, 4, 99), 0);  // floor(0.75)
  EXPECT_EQ(expert_capacity(1, 1.0, 0, 4, 0), 0);     // no tokens
  EXPECT_EQ(expert_capacity(1, 1.0, 1, 64, 1), 1);    // fewer tokens than experts
}

TEST(ExpertCapacity, ZeroIsDropless) {
  EXPECT_EQ(expert_capacity(2, 0.0, 10, 4, 7), 7);
  EXPECT_EQ(expert_capacity(2, -0.0, 10, 4, 7), 7);
}

TEST(ExpertCapacity, NegativeFactorCapsWhatIsNeeded) {
  EXPECT_EQ(expert_capacity(2, -1.0, 10, 4, 7), 6);
  EXPECT_EQ(expert_capacity(2, -1.5, 10, 4, 7), 7);    // the cap of 8 does not bind
  EXPECT_EQ(expert_capacity(2, -1e300, 10, 4, 7), 7);  // a cap beyond 64 bits does not either
}

TEST(ExpertCapacity, RefusesWhatCannotBe) {
  EXPECT_EQ(error_text([] { (void)expert_capacity(1, std::nan(""), 10, 4, 7); }),
            "capacity factor is nan, expected a finite number");
  EXPECT_EQ(error_text([] { (void)expert_capacity(1, -std::numeric_limits<double>::infinity(), 10, 4, 7); }),
            "capacity factor is -inf, expected a finite number");
  EXPECT_EQ(error_text([] { (void)expert_capacity(1, 1e300, 10, 4, 7); }),
            "capacity factor 1e+300 with top-1 of 4 experts and 10 tokens gives more than 2^63 slots");
  EXPECT_EQ(error_text([] { (void)expert_capacity(4, 1e18, 10, 4, 7); }),
            "capacity factor 1e+18 with top-4 of 4 experts and 10 tokens gives more than 2^63 slots");
  EXPECT_EQ(error_text([] { (void)expert_capacity(5, 1.0, 10, 4, 7); }),
            "expert_capacity: top-k is 5 with 4 experts, expected 1 <= k <= experts");
  EXPECT_EQ(error_text([] { (void)expert_capacity(1, 1.0, -1, 4, 7); }),
            "expert_capacity: -1 tokens need 7 slots; both are 0 or more");
}

}  // namespace
}  // namespace flex::testing
