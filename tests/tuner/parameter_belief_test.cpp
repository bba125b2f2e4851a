#include "tuner/parameter_belief.h"

#include <gmock/gmock.h>

#include "base/philox.h"
#include "tuner/capacity_span.h"
#include "tuner/drift_detector.h"
#include "tuner/trial.h"

namespace flex {
namespace {

BeliefForm form_of(std::initializer_list<double> slopes) {
  BeliefForm form;
  form.slopes = Eigen::Map<const Eigen::VectorXd>(slopes.begin(), static_cast<Eigen::Index>(slopes.size()));
  return form;
}

// Prior variance 1 and noise 1: half of the surprise is believed, half of the variance left.
TEST(ParameterBelief, SharesASurpriseOut) {
  ParameterBelief belief(2, 1);
  belief.observe(form_of({1, 0}), 2, 1);
  EXPECT_DOUBLE_EQ(belief.parameters()[0], 1);
  EXPECT_DOUBLE_EQ(belief.parameters()[1], 0);
  EXPECT_DOUBLE_EQ(belief.variance(form_of({1, 0})), 0.5);
  EXPECT_DOUBLE_EQ(belief.variance(form_of({0, 1})), 1);
}

// The sum of a parameter and a residual is observed without noise. Prior variances 1 and 3: a quarter and
// three quarters of it are theirs, and afterwards one is what the other is not.
TEST(ParameterBelief, KnowsWhatItCannotTellApart) {
  ParameterBelief belief(1, 2);
  const std::int32_t slot = belief.add_residual(3);
  BeliefForm sum = form_of({1});
  sum.residuals[0] = {slot, 1};
  sum.num_residuals = 1;
  belief.observe(sum, 4, 0);
  EXPECT_DOUBLE_EQ(belief.parameters()[0], 1);
  EXPECT_DOUBLE_EQ(belief.residual(slot), 3);
  EXPECT_DOUBLE_EQ(belief.mean(sum), 4);
  EXPECT_NEAR(belief.variance(sum), 0, 1e-12);
  EXPECT_DOUBLE_EQ(belief.variance(form_of({1})), 0.75);
  belief.reset_residual(slot, 2);
  EXPECT_DOUBLE_EQ(belief.residual(slot), 0);
  EXPECT_DOUBLE_EQ(belief.variance(sum), 2.75)
      << "what it stood for is forgotten, not what was learned by it";
}

TEST(ParameterBelief, GrowsLessSureWithAgeAndChange) {
  ParameterBelief belief(2, 1);
  const std::int32_t slot = belief.add_residual(1);
  EXPECT_TRUE(belief.is_full());
  belief.age(0.5, 0.25);
  BeliefForm residual = form_of({0, 0});
  residual.residuals[0] = {slot, 2};
  residual.num_residuals = 1;
  EXPECT_DOUBLE_EQ(belief.variance(residual), 4 * 1.25);
  belief.widen(Eigen::Vector2d(2, 0));
  EXPECT_DOUBLE_EQ(belief.variance(form_of({1, 0})), 3.5);
  EXPECT_DOUBLE_EQ(belief.variance(form_of({0, 1})), 1.5);
}

TEST(DriftDetector, TellsALastingChangeFromOutliers) {
  DriftDetector detector;
  EXPECT_FALSE(detector.observe(100));
  EXPECT_FALSE(detector.observe(100));
  EXPECT_TRUE(detector.observe(100)) << "the third in a row";
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(detector.observe(i % 6 == 0 ? 100 : 0)) << "single outliers";
  }
  int count = 1;
  while (!detector.observe(-1.5)) ++count;
  EXPECT_LE(count, 12) << "1.5 - 0.75 each, up to 8";
}

TEST(DriftDetector, NoiseAloneIsSeldomAChange) {
  DriftDetector detector;
  PhiloxStream random(11);
  int alarms = 0;
  constexpr int kObservations = 400'000;
  for (int i = 0; i < kObservations; ++i) alarms += detector.observe(random.normal()) ? 1 : 0;
  EXPECT_LE(alarms, 8);
}

TEST(CapacitySpan, BucketsLieInRegions) {
  EXPECT_EQ(region_span(0), (CapacitySpan{0, 0}));
  EXPECT_EQ(region_span(1100), (CapacitySpan{1024, 1279}));
  EXPECT_EQ(bucket_span(1100), (CapacitySpan{1024, 1151}));
  EXPECT_EQ(bucket_span(5), (CapacitySpan{5, 5}));
  std::int64_t next = 0;
  for (std::int64_t capacity = 0; capacity < 300'000; ++capacity) {
    const CapacitySpan region = region_span(capacity);
    const CapacitySpan bucket = bucket_span(capacity);
    ASSERT_TRUE(region.contains(capacity) && bucket.contains(capacity)) << capacity;
    ASSERT_GE(bucket.low, region.low);
    ASSERT_LE(bucket.high, region.high);
    ASSERT_EQ(capacity_bucket(bucket.low), capacity_bucket(capacity));
    ASSERT_EQ(capacity_bucket(bucket.high), capacity_bucket(capacity));
    ASSERT_LE(region.high - region.low + 1, std::max<std::int64_t>(region.low / 4, 1)) << capacity;
    if (capacity == region.low) {
      ASSERT_EQ(capacity, next) << "no gap, no overlap";
      next = region.high + 1;
    }
  }
}

}  // namespace
}  // namespace flex
