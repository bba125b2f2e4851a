#include "models/data/sample_order.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"

namespace flex {
namespace {

using ::testing::ThrowsMessage;

std::vector<std::int64_t> epoch_of(const SampleOrder& order, std::int64_t count, std::int64_t epoch) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < count; ++i) {
    const SampleOrder::Place place = order.at(epoch * count + i);
    EXPECT_EQ(place.epoch, epoch);
    indices.push_back(place.index);
  }
  return indices;
}

TEST(SampleOrder, EveryEpochHasEveryImageOnce) {
  for (std::int64_t count = 1; count <= 130; ++count) {
    const SampleOrder order(count, 11);
    for (const std::int64_t epoch : {0, 1, 1000}) {
      const std::vector<std::int64_t> indices = epoch_of(order, count, epoch);
      const std::set<std::int64_t> distinct(indices.begin(), indices.end());
      ASSERT_EQ(static_cast<std::int64_t>(distinct.size()), count);
      ASSERT_EQ(*distinct.begin(), 0);
      ASSERT_EQ(*distinct.rbegin(), count - 1);
    }
  }
}

TEST(SampleOrder, EpochsAndSeedsDiffer) {
  EXPECT_NE(epoch_of(SampleOrder(50, 1), 50, 0), epoch_of(SampleOrder(50, 1), 50, 1));
  EXPECT_NE(epoch_of(SampleOrder(50, 1), 50, 0), epoch_of(SampleOrder(50, 2), 50, 0));
  EXPECT_EQ(epoch_of(SampleOrder(50, 1), 50, 3), epoch_of(SampleOrder(50, 1), 50, 3));
}

// Over many epochs each of 7 images stands at each of 7 places equally often: chi squared of 36 degrees of
// freedom exceeds 81 once in 25,000 seeds; this seed is fixed.
TEST(SampleOrder, PlacesAreUniform) {
  constexpr std::int64_t kCount = 7;
  constexpr int kEpochs = 7000;
  const SampleOrder order(kCount, 5);
  std::vector<std::vector<int>> counts(kCount, std::vector<int>(kCount, 0));
  for (std::int64_t position = 0; position < kEpochs * kCount; ++position)
    ++counts[static_cast<std::size_t>(position % kCount)][static_cast<std::size_t>(order.at(position).index)];
  double chi_squared = 0;
  for (const auto& row : counts) {
    for (const int count : row) chi_squared += std::pow(count - kEpochs / 7.0, 2) / (kEpochs / 7.0);
  }
  EXPECT_LT(chi_squared, 81);
}

TEST(SampleOrder, LargeSetsNeedNoTable) {
  const std::int64_t count = std::int64_t{1} << 40;
  const SampleOrder order(count, 1);
  EXPECT_LT(order.at(count - 1).index, count);
  EXPECT_EQ(order.at(count + 5).epoch, 1);
  EXPECT_THAT([] { SampleOrder(0, 1); },
              ThrowsMessage<InputError>("SampleOrder: there is no order of 0 images"));
}

}  // namespace
}  // namespace flex
