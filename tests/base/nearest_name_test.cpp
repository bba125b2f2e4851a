#include "base/nearest_name.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace flex {
namespace {

const std::vector<std::string> kNames = {"latency_us", "bandwidth_GBps", "name", "id"};

TEST(NearestName, FindsMisspelledNames) {
  EXPECT_EQ(nearest_name("latencyus", kNames), "latency_us");
  EXPECT_EQ(nearest_name("latency_ns", kNames), "latency_us");
  EXPECT_EQ(nearest_name("bandwidth_gbps", kNames), "bandwidth_GBps");
  EXPECT_EQ(nearest_name("nme", kNames), "name");
}

TEST(NearestName, IsSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest_name("contention", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("xy", kNames), std::nullopt);  // shares no letter with "id"
  EXPECT_EQ(nearest_name("", kNames), std::nullopt);
  EXPECT_EQ(nearest_name("name", {}), std::nullopt);
}

TEST(NearestName, TheFirstOfEqualsWins) {
  const std::vector<std::string> names = {"rank_b", "rank_a"};
  EXPECT_EQ(nearest_name("rank_c", names), "rank_b");
}

TEST(NearestName, TakesAbsurdlyLongNames) {
  EXPECT_EQ(nearest_name(std::string(10'000'000, 'x'), kNames), std::nullopt);
}

}  // namespace
}  // namespace flex
