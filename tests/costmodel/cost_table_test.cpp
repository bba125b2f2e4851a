#include "costmodel/cost_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/philox.h"
#include "tests/costmodel/cost_cases.h"

namespace flex::testing {
namespace {

constexpr double kRounding = 1e-9;
// Interpolation meets sizes to a thousandth of a factor of two.
constexpr double kInterpolation = 2e-3;

CostSample copy_sample(std::int64_t bytes, double us) {
  return {.kind = OperationKind::kEncode, .bytes = bytes, .duration_ns = std::llround(us * 1e3)};
}

OperationWork copy_work(double bytes) { return {.kind = OperationKind::kEncode, .bytes = bytes}; }

CostSample product_sample(std::int64_t rows, std::int64_t columns, double us) {
  return {.kind = OperationKind::kExpertFfn,
          .batch = 2,
          .rows = rows,
          .columns = columns,
          .model_dim = 64,
          .bytes = 1,
          .flops = static_cast<double>(2 * 2 * 2 * rows * columns * 64),
          .duration_ns = std::llround(us * 1e3)};
}

class CostTableTest : public ::testing::Test {
 protected:
  [[nodiscard]] double us(const CostTable& table, const OperationWork& work) const {
    return roofline_.duration_us(work) * table.ratio(work).value;
  }
  OperationRoofline roofline_{toy_cluster(), toy_parameters()};
};

TEST_F(CostTableTest, WithoutSamplesTheRooflineStands) {
  const CostTable table({}, roofline_);
  EXPECT_TRUE(table.empty());
  const CostTable::Ratio ratio = table.ratio(copy_work(1e6));
  EXPECT_EQ(ratio.value, 1);
  EXPECT_EQ(ratio.origin, CostOrigin::kRoofline);
  EXPECT_FALSE(ratio.relative_error.has_value());
}

TEST_F(CostTableTest, MeasuredBetweenAndOutside) {
  // The roofline: 3 us and 50,000 bytes a us. Measured twice as long at 1e5 bytes, four times at 16e5.
  const std::vector<CostSample> samples = {copy_sample(100000, 2 * 5), copy_sample(1600000, 4 * 35)};
  const CostTable table(samples, roofline_);
  EXPECT_EQ(table.ratio(copy_work(1e5)).origin, CostOrigin::kMeasured);
  EXPECT_NEAR(us(table, copy_work(1e5)), 10, kRounding);
  EXPECT_NEAR(us(table, copy_work(16e5)), 140, kRounding);
  // Half of the way from 1 to 16 is 4, and from twice to four times sqrt(8).
  EXPECT_EQ(table.ratio(copy_work(4e5)).origin, CostOrigin::kInterpolated);
  EXPECT_NEAR(us(table, copy_work(4e5)), std::sqrt(8.0) * 11, kInterpolation * 30);
  // Outside: the roofline, as many times as long as at the nearest size.
  EXPECT_EQ(table.ratio(copy_work(5e4)).origin, CostOrigin::kRoofline);
  EXPECT_NEAR(us(table, copy_work(5e4)), 2 * 4, kRounding);
  EXPECT_NEAR(us(table, copy_work(64e5)), 4 * 131, kRounding * 500);
  EXPECT_FALSE(table.ratio(copy_work(5e4)).relative_error.has_value());
}

TEST_F(CostTableTest, SizesOfProductsAreInterpolatedTogether) {
  std::vector<CostSample> samples;
  for (const std::int64_t rows : {64, 1024}) {
    for (const std::int64_t columns : {64, 1024}) {
      CostSample sample = product_sample(rows, columns, 0);
      // log2 of the ratio: rows / 64 + twice that of columns, in sixteens.
      const double ratio = (rows == 64 ? 1 : 2) * (columns == 64 ? 1 : 4);
      sample.duration_ns = std::llround(1e3 * ratio * roofline_.duration_us(work_of(sample)));
      samples.push_back(sample);
    }
  }
  const CostTable table(samples, roofline_);
  const CostTable::Ratio middle = table.ratio(work_of(product_sample(256, 256, 1)));
  EXPECT_EQ(middle.origin, CostOrigin::kInterpolated);
  EXPECT_NEAR(middle.value, std::sqrt(8.0), 5e-3);
  EXPECT_NEAR(table.ratio(work_of(product_sample(256, 64, 1))).value, std::sqrt(2.0), 5e-3);
  EXPECT_EQ(table.ratio(work_of(product_sample(32, 256, 1))).origin, CostOrigin::kRoofline);
  OperationWork other = work_of(product_sample(256, 256, 1));
  other.batch = 4;  // no sample has so many
  EXPECT_EQ(table.ratio(other).origin, CostOrigin::kRoofline);
}

TEST_F(CostTableTest, OtherTypesRanksAndPeersAreOtherOperations) {
  CostSample sample{.kind = OperationKind::kAllToAll,
                    .peers = 8,
                    .bytes_per_peer = 4000,
                    .bytes = 32000,
                    .world = 8,
                    .duration_ns = 150000};
  const CostTable table(std::vector<CostSample>{sample}, roofline_);
  EXPECT_NEAR(table.ratio(work_of(sample)).value, 2, kRounding);
  sample.world = 4;
  sample.peers = 4;
  EXPECT_EQ(table.ratio(work_of(sample)).value, 1);
  sample.world = 8;
  sample.peers = 8;
  sample.dtype = DType::kF16;
  EXPECT_EQ(table.ratio(work_of(sample)).value, 1);
}

TEST_F(CostTableTest, RepeatsGiveTheirMedianAndSpread) {
  std::vector<CostSample> samples;
  for (const double us : {9.0, 10.0, 11.0, 10.0, 90.0}) samples.push_back(copy_sample(100000, us));
  samples.push_back(copy_sample(100000, 1000));
  samples.back().beside = Beside::kCommunication;  // no duration of this operation alone
  samples.push_back(copy_sample(100000, 0));       // nothing was seen
  const CostTable table(samples, roofline_);
  const CostTable::Ratio ratio = table.ratio(copy_work(1e5));
  EXPECT_NEAR(ratio.value, 2, kRounding);
  // Of deviations 0, 0, 0.1, 0.1 and 8 the 0.683 quantile.
  ASSERT_TRUE(ratio.relative_error.has_value());
  EXPECT_NEAR(*ratio.relative_error, 0.1, kRounding);
}

TEST_F(CostTableTest, ErrorsBetweenAreThoseOfSamplesLeftOut) {
  // Ratios 1, 2, 1, 1, 1 at sizes four times apart: left out, the second would be 1, its neighbours sqrt(2).
  std::vector<CostSample> samples;
  const double ratios[] = {1, 2, 1, 1, 1};
  double bytes = 1e5;
  for (const double ratio : ratios) {
    samples.push_back(copy_sample(static_cast<std::int64_t>(bytes), ratio * (3 + bytes / 5e4)));
    bytes *= 4;
  }
  const CostTable table(samples, roofline_);
  const CostTable::Ratio between = table.ratio(copy_work(2e5));
  ASSERT_TRUE(between.relative_error.has_value());
  // Three sizes have neighbours on both sides: errors 0.5, sqrt(2) - 1 and 0.
  const double expected = std::sqrt(2.0) - 1 + 0.366 * (0.5 - (std::sqrt(2.0) - 1));
  EXPECT_NEAR(*between.relative_error, expected, 5e-3);
}

// Durations that are the roofline times powers of the sizes are linear in the logarithms: exact inside of the
// hull, whatever the samples.
TEST_F(CostTableTest, PowersAreReproducedInsideOfTheHull) {
  PhiloxStream random(3);
  const auto ratio_of = [](const OperationWork& work) {
    return std::pow(static_cast<double>(work.rows), 0.3) * std::pow(static_cast<double>(work.columns), -0.2);
  };
  std::vector<CostSample> samples;
  for (int i = 0; i < 200; ++i) {
    CostSample sample = product_sample(1 + random.below(4096), 1 + random.below(4096), 0);
    const OperationWork work = work_of(sample);
    sample.duration_ns = std::llround(1e6 * roofline_.duration_us(work) * ratio_of(work));
    samples.push_back(sample);
  }
  const CostTable table(samples, roofline_);
  int inside = 0;
  for (int i = 0; i < 200; ++i) {
    const OperationWork work = work_of(product_sample(1 + random.below(4096), 1 + random.below(4096), 0));
    const CostTable::Ratio ratio = table.ratio(work);
    if (ratio.origin != CostOrigin::kInterpolated) continue;
    ++inside;
    EXPECT_NEAR(ratio.value / (1e3 * ratio_of(work)), 1, 2 * kInterpolation);
  }
  EXPECT_GT(inside, 150);
}

}  // namespace
}  // namespace flex::testing
