#include "costmodel/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "tests/base/expect_error.h"

namespace flex {
namespace {

TEST(Accuracy, MedianIsTheMiddleOrTheMeanOfTwo) {
  EXPECT_EQ(median(std::vector<double>{7}), 7);
  EXPECT_EQ(median(std::vector<double>{9, 1, 5}), 5);
  EXPECT_EQ(median(std::vector<double>{8, 1, 2, 4}), 3);
}

// Distances from the median 4 are 3, 2, 0, 2, 96: their median is 2, whatever the outlier is.
TEST(Accuracy, DeviationIsNotMovedByAnOutlier) {
  EXPECT_EQ(median_absolute_deviation(std::vector<double>{1, 2, 4, 6, 100}), 2);
  EXPECT_EQ(median_absolute_deviation(std::vector<double>{1, 2, 4, 6, 1e9}), 2);
  EXPECT_EQ(median_absolute_deviation(std::vector<double>{5, 5, 5}), 0);
}

TEST(Accuracy, ErrorIsRelativeToWhatWasMeasured) {
  EXPECT_DOUBLE_EQ(relative_error(90, 100), 0.1);
  EXPECT_DOUBLE_EQ(relative_error(150, 100), 0.5);
}

TEST(Accuracy, SaysWhatIsMissing) {
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(median({})); }), "there is no median of no values");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(relative_error(1, 0)); }),
            "a measured value of 0; a relative error needs one above 0");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(regret({})); }),
            "there is no choice among no alternatives");
}

TEST(KendallTauB, IsOneInTheSameOrderAndMinusOneInTheReverse) {
  std::vector<Alternative> same = {{.predicted = 1, .measured = 10},
                                   {.predicted = 5, .measured = 20},
                                   {.predicted = 6, .measured = 21},
                                   {.predicted = 9, .measured = 40}};
  EXPECT_EQ(kendall_tau_b(same), 1.0);
  for (Alternative& alternative : same) alternative.predicted *= -1;
  EXPECT_EQ(kendall_tau_b(same), -1.0);
}

// Pairs: (a,b) agrees, (a,c) agrees, (b,c) does not: (2 - 1) / 3.
TEST(KendallTauB, CountsPairsWithoutTies) {
  const std::vector<Alternative> three = {
      {.predicted = 1, .measured = 1}, {.predicted = 3, .measured = 2}, {.predicted = 2, .measured = 3}};
  EXPECT_DOUBLE_EQ(kendall_tau_b(three).value(), 1.0 / 3);
}

// Measured 1, 2, 2, 4 and predicted 1, 2, 3, 3: 4 pairs agree, one is tied in each, so 4 / sqrt(5 * 5).
TEST(KendallTauB, TakesTiesOutOfBothSides) {
  const std::vector<Alternative> four = {{.predicted = 1, .measured = 1},
                                         {.predicted = 2, .measured = 2},
                                         {.predicted = 3, .measured = 2},
                                         {.predicted = 3, .measured = 4}};
  EXPECT_DOUBLE_EQ(kendall_tau_b(four).value(), 4.0 / 5);
}

// 10 and 11 lie within twice the larger spread, 0.5; 10 and 12 do not. The prediction has the first two the
// wrong way round, by 0.4, which is no difference either.
TEST(KendallTauB, SeesNoDifferenceWithinTwiceTheSpread) {
  const std::vector<Alternative> three = {{.predicted = 10.4, .measured = 10, .spread = 0.1},
                                          {.predicted = 10, .measured = 11, .spread = 0.5},
                                          {.predicted = 14, .measured = 12.01, .spread = 0.1}};
  EXPECT_EQ(kendall_tau_b(three), 1.0);
  std::vector<Alternative> sharp = three;
  sharp[1].spread = 0.1;
  EXPECT_DOUBLE_EQ(kendall_tau_b(sharp).value(), 1.0 / 3);
}

// A pair that is measured as different and predicted as equal counts on one side only: 2 / sqrt(3 * 2).
TEST(KendallTauB, PunishesDifferencesThatAreNotPredicted) {
  const std::vector<Alternative> three = {
      {.predicted = 1, .measured = 1}, {.predicted = 1, .measured = 2}, {.predicted = 3, .measured = 3}};
  EXPECT_DOUBLE_EQ(kendall_tau_b(three).value(), 2 / std::sqrt(6.0));
}

TEST(KendallTauB, IsNothingIfAllAreEqual) {
  EXPECT_FALSE(kendall_tau_b({}).has_value());
  EXPECT_FALSE(kendall_tau_b(std::vector<Alternative>{{.predicted = 1, .measured = 1}}).has_value());
  const std::vector<Alternative> equal = {{.predicted = 1, .measured = 5, .spread = 1},
                                          {.predicted = 9, .measured = 6, .spread = 1}};
  EXPECT_FALSE(kendall_tau_b(equal).has_value());
}

TEST(Regret, IsWhatTheModelsChoiceLosesToTheBest) {
  const std::vector<Alternative> three = {{.predicted = 3, .measured = 100},
                                          {.predicted = 2, .measured = 110},
                                          {.predicted = 4, .measured = 150}};
  EXPECT_NEAR(regret(three), 0.1, 1e-12);
  EXPECT_EQ(regret(std::span(three).first(1)), 0);
}

}  // namespace
}  // namespace flex
