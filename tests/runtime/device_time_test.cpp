#include "runtime/device_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>

namespace flex {
namespace {

using ::testing::DoubleEq;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DividedDeviceTime, OfOnePieceIsItsLength) {
  EXPECT_THAT(divide_device_time(std::vector<DeviceWork>{{10, 13, 30}}), ElementsAre(DoubleEq(20)));
  EXPECT_THAT(divide_device_time({}), IsEmpty());
}

// 10 to 20 one alone, 20 to 30 both, 30 to 35 the other alone.
TEST(DividedDeviceTime, IsEqualAmongThoseUnderWay) {
  EXPECT_THAT(divide_device_time(std::vector<DeviceWork>{{10, 10, 30}, {20, 20, 35}}),
              ElementsAre(DoubleEq(15), DoubleEq(10)));
}

// Both are ready at 0. The second waits while the first runs, and the device needs 2 until it begins.
TEST(DividedDeviceTime, AWaitForAnothersWorkIsNoPart) {
  EXPECT_THAT(divide_device_time(std::vector<DeviceWork>{{0, 0, 10}, {0, 12, 20}}),
              ElementsAre(DoubleEq(10), DoubleEq(10)));
}

TEST(DividedDeviceTime, NothingTakesNothing) {
  EXPECT_THAT(divide_device_time(std::vector<DeviceWork>{{5, 5, 5}, {0, 0, 10}}),
              ElementsAre(DoubleEq(0), DoubleEq(10)));
}

// Each moment is given once: the parts add up to the time in which anything was ready or under way.
TEST(DividedDeviceTime, AddsUpToTheTimeCovered) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<std::int64_t> moment(0, 60);
    std::vector<DeviceWork> work(1 + seed % 7);
    std::vector<bool> covered(60);
    for (DeviceWork& piece : work) {
      std::array<std::int64_t, 3> ns{moment(random), moment(random), moment(random)};
      std::ranges::sort(ns);
      piece = {ns[0], ns[1], ns[2]};
      for (std::int64_t at = ns[0]; at < ns[2]; ++at) covered[static_cast<std::size_t>(at)] = true;
    }
    const std::vector<double> divided = divide_device_time(work);
    EXPECT_THAT(std::accumulate(divided.begin(), divided.end(), 0.0),
                DoubleNear(static_cast<double>(std::ranges::count(covered, true)), 1e-9));
    for (std::size_t i = 0; i < work.size(); ++i) {
      EXPECT_GE(divided[i], 0);
      EXPECT_LE(divided[i], static_cast<double>(work[i].end_ns - work[i].ready_ns) + 1e-9);
    }
  }
}

}  // namespace
}  // namespace flex
