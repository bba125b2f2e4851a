#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/read_file.h"
#include "costmodel/cost_parameter_fields.h"
#include "tests/support/paper_predictions.h"
#include "tests/support/validation_tables.h"

/// The published figures, predicted with one set of parameters.
namespace flex::testing {
namespace {

const PaperPredictions& predictions() {
  static const PaperPredictions kPredictions(calibration_of(load_cluster(kPaperCluster)).parameters);
  return kPredictions;
}

void expect_all_hold(const std::vector<ComparedFigure>& figures, std::size_t num_asked) {
  std::size_t asked = 0;
  for (const ComparedFigure& figure : figures) {
    if (figure.tolerance == 0) continue;
    ++asked;
    EXPECT_NEAR(figure.predicted / figure.published, 1, figure.tolerance) << figure.what;
  }
  EXPECT_EQ(asked, num_asked);
}

TEST(PaperFigures, ShareOfComputeAndAllToAll) { expect_all_hold(predictions().layer_shares(), 6); }

TEST(PaperFigures, ScalingCurves) { expect_all_hold(predictions().scaling(), 15); }

TEST(PaperFigures, LinearWinsUpTo128GpusAnd2dhFrom512) {
  for (const ScalingPrediction& point : predictions().scaling_curve()) {
    if (point.gpus >= 32 && point.gpus <= 128) {
      EXPECT_GT(point.ratio(), 1) << point.gpus;
    }
    if (point.gpus == 256) {
      EXPECT_NEAR(point.ratio(), 1, 0.05);
    }
    if (point.gpus >= 512) {
      EXPECT_LT(point.ratio(), 1) << point.gpus;
    }
  }
}

// The built-in errors of whole passes are what the curves need, rounded up to half a tenth.
TEST(PaperFigures, BandsHoldTheScalingCurves) {
  const CostParameters parameters = calibration_of(load_cluster(kPaperCluster)).parameters;
  const std::vector<BandPrediction> bands = predictions().scaling_bands();
  ASSERT_EQ(bands.size(), 15U);
  for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
    constexpr double kStep = 0.05;
    const double needed = needed_pass_error(bands, algorithm);
    EXPECT_DOUBLE_EQ(parameters.pass_error(algorithm), kStep * std::ceil(needed / kStep)) << name(algorithm);
    const auto is_within = [&](const BandPrediction& band) {
      return band.algorithm == algorithm && band.is_within();
    };
    const auto is_of = [&](const BandPrediction& band) { return band.algorithm == algorithm; };
    EXPECT_GE(static_cast<double>(std::ranges::count_if(bands, is_within)),
              0.683 * static_cast<double>(std::ranges::count_if(bands, is_of)))
        << name(algorithm);
  }
}

TEST(PaperFigures, SpeedupsOverFairseq) { expect_all_hold(predictions().speedups(), 2); }

TEST(PaperFigures, OrderOfGainsAt2048Gpus) {
  const Gains gains = predictions().gains(2048);
  EXPECT_GE(gains.hierarchical, 1.8);
  EXPECT_GT(gains.hierarchical, gains.flexible);
  EXPECT_GT(gains.flexible, gains.adaptive);
  EXPECT_GE(gains.adaptive, 1);
  EXPECT_NEAR(gains.kernels * gains.hierarchical * gains.flexible * gains.adaptive, gains.total, 1e-9);
}

TEST(PaperFigures, PipeliningChoicesAreInTheRightOrder) {
  for (const PipeliningGains& published : kPipelining) {
    const PipeliningPrediction predicted = predictions().pipelining(published);
    EXPECT_GE(predicted.pairs, 20) << published.gpus;
    EXPECT_GE(predicted.right_order, 0.85 * predicted.pairs) << published.gpus;
  }
}

TEST(PaperFigures, MemoryOfALayer) { expect_all_hold(predictions().memory(), 8); }

TEST(PaperFigures, AllLinesHoldAndOthersWouldNotGoUnseen) {
  EXPECT_EQ(broken_lines(predictions()), std::vector<std::string>{});
  // Each of the parameters that matter most, twice as good as it is.
  for (const char* path : {"compute.matrix_efficiency", "inter_node.bandwidth_efficiency",
                           "inter_node.contention_peers", "inter_node.message_us", "memory.base_GiB"}) {
    CostParameters other = calibration_of(load_cluster(kPaperCluster)).parameters;
    for (const CostParameterField& field : cost_parameter_fields()) {
      if (field.path() == path) field.of(other) *= 2;
    }
    EXPECT_FALSE(broken_lines(PaperPredictions(other)).empty()) << path;
  }
}

TEST(PaperFigures, DocumentHoldsTheTablesOfToday) {
  const std::string document =
      read_file(std::filesystem::path(FLEX_SOURCE_DIR) / "docs" / "validation.md", 1 << 20);
  EXPECT_NE(document.find(validation_tables()), std::string::npos)
      << "docs/validation.md is older than the code: replace its tables by what flex_validation_tables "
         "prints";
}

}  // namespace
}  // namespace flex::testing
