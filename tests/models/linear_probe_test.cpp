#include "models/linear_probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "base/philox.h"
#include "runtime/launch.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

FeatureTable table_of(const std::vector<std::vector<double>>& rows, const std::vector<std::int32_t>& labels) {
  const auto width = static_cast<std::int64_t>(rows[0].size());
  FeatureTable table(width);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Tensor row(DType::kF64, {1, width});
    std::ranges::copy(rows[i], row.as<double>());
    Tensor label(DType::kI32, {1});
    *label.as<std::int32_t>() = labels[i];
    const auto sample = static_cast<std::int64_t>(i);
    table.add(row, label, std::span(&sample, 1));
  }
  return table;
}

// Features 1 and 3: mean 2, deviation 1, so -1 and 1, with targets 1 and -1 of class 0. The weight is
// -2 / (2 + ridge): -1/2 at a ridge of 2. The intercept is 0, since the classes are as frequent.
TEST(LinearProbe, MatchesAHandWorkedExample) {
  const FeatureTable two = table_of({{1}, {3}}, {0, 1});
  const LinearProbe probe(two, 2, 2);
  const Tensor scores = probe.scores(table_of({{1}, {3}, {6}, {2}}, {0, 1, 1, 0}));
  const std::vector<double> expected = {0.5, -0.5, -0.5, 0.5, -2, 2, 0, 0};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(scores.as<double>()[i], expected[i], 1e-12);
  EXPECT_EQ(probe.accuracy(table_of({{1}, {3}, {6}, {2}}, {0, 1, 1, 0})), 1);
  EXPECT_EQ(probe.accuracy(table_of({{2}}, {1})), 0);  // a tie: the lower class
}

// Clusters around the corners of a cube, moved and stretched.
struct Clusters {
  std::vector<std::vector<double>> rows;
  std::vector<std::int32_t> labels;
};
Clusters clusters(std::int64_t count, std::int64_t width, std::uint64_t seed) {
  PhiloxStream random(seed);
  Clusters made;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto label = static_cast<std::int32_t>(i % 4);
    std::vector<double>& row = made.rows.emplace_back();
    for (std::int64_t c = 0; c < width; ++c) {
      const double corner = (label >> (c % 2)) % 2;
      row.push_back(100 + static_cast<double>(c + 1) * (corner + 0.2 * random.normal()));
    }
    made.labels.push_back(label);
  }
  return made;
}

// What the scores must make the smallest: the gradient of the ridge problem vanishes, whichever of the two
// matrices was factored. Checked through the residuals' products with the standardized features.
TEST(LinearProbe, SolvesTheRidgeProblemWithMoreOrFewerSamplesThanFeatures) {
  for (const auto& [count, width] : {std::pair<std::int64_t, std::int64_t>{40, 6}, {6, 40}, {12, 12}}) {
    constexpr double kRidge = 0.7;
    const Clusters made = clusters(count, width, 5);
    const FeatureTable table = table_of(made.rows, made.labels);
    const Tensor scores = LinearProbe(table, 4, kRidge).scores(table);
    // (X X^T + ridge) a = Y with the scores X X^T a less the intercept: so ridge a = residual, and the score
    // of a sample is the sum of the residuals' products with it, over the ridge.
    std::vector<std::vector<double>> x = made.rows;
    for (std::int64_t c = 0; c < width; ++c) {
      double mean = 0;
      double square = 0;
      for (const auto& row : x) mean += row[c] / static_cast<double>(count);
      for (const auto& row : x) square += (row[c] - mean) * (row[c] - mean) / static_cast<double>(count);
      for (auto& row : x) row[c] = (row[c] - mean) / std::sqrt(square);
    }
    for (std::int64_t k = 0; k < 4; ++k) {
      double mean = 0;
      for (const std::int32_t label : made.labels)
        mean += (label == k ? 1.0 : -1.0) / static_cast<double>(count);
      for (std::int64_t i = 0; i < count; ++i) {
        double score = mean;
        for (std::int64_t j = 0; j < count; ++j) {
          double product = 0;
          for (std::int64_t c = 0; c < width; ++c) product += x[i][c] * x[j][c];
          score += product * ((made.labels[j] == k ? 1.0 : -1.0) - scores.as<double>()[j * 4 + k]) / kRidge;
        }
        EXPECT_NEAR(scores.as<double>()[i * 4 + k], score, 1e-9) << count << "x" << width;
      }
    }
  }
}

TEST(LinearProbe, TellsClustersApartFromFewShots) {
  const Clusters train = clusters(200, 8, 1);
  const Clusters test = clusters(400, 8, 2);
  const FewShotOptions options{.shots = 5, .ridge = 1, .seed = 3};
  const double accuracy =
      few_shot_accuracy(table_of(train.rows, train.labels), table_of(test.rows, test.labels), 4, options);
  EXPECT_GT(accuracy, 0.95);
  EXPECT_EQ(accuracy, few_shot_accuracy(table_of(train.rows, train.labels), table_of(test.rows, test.labels),
                                        4, options));
}

TEST(LinearProbe, AFeatureThatIsAlwaysTheSameDoesNotMatter) {
  const FeatureTable with = table_of({{1, 5}, {3, 5}}, {0, 1});
  const Tensor scores = LinearProbe(with, 2, 2).scores(table_of({{1, 900}}, {0}));
  EXPECT_NEAR(scores.as<double>()[0], 0.5, 1e-12);
}

TEST(LinearProbe, RefusesWhatCannotBe) {
  const FeatureTable two = table_of({{1}, {3}}, {0, 1});
  EXPECT_EQ(error_text([&] { LinearProbe probe(two, 2, 0); }), "LinearProbe: ridge is 0; it must be above 0");
  EXPECT_EQ(error_text([&] { LinearProbe probe(two, 1, 1); }),
            "LinearProbe: sample 1 has label 1; classes are 0 to 0");
  EXPECT_EQ(error_text([&] { LinearProbe probe(FeatureTable(3), 2, 1); }),
            "LinearProbe: there are no samples");
  EXPECT_EQ(error_text([&] {
              LinearProbe probe(table_of({{std::numeric_limits<double>::infinity()}, {1}}, {0, 1}), 2, 1);
            }),
            "LinearProbe: the features are not all finite");
  const LinearProbe probe(two, 2, 1);
  EXPECT_EQ(error_text([&] {
              static_cast<void>(probe.scores(table_of({{1, 2}}, {0})));
            }),
            "LinearProbe: 2 features, fitted on 1");
}

TEST(FewShots, ArePickedByClassAndSeed) {
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 60; ++i) labels.push_back(i % 3);
  const std::vector<std::int64_t> picked = pick_few_shots(labels, 3, 4, 7);
  ASSERT_EQ(picked.size(), 12U);
  for (std::size_t i = 0; i < picked.size(); ++i) EXPECT_EQ(labels[picked[i]], static_cast<int>(i) / 4);
  EXPECT_EQ((std::set<std::int64_t>(picked.begin(), picked.end()).size()), 12U);
  EXPECT_EQ(pick_few_shots(labels, 3, 4, 7), picked);
  EXPECT_NE(pick_few_shots(labels, 3, 4, 8), picked);
  EXPECT_EQ(error_text([&] { static_cast<void>(pick_few_shots(labels, 4, 1, 0)); }),
            "class 3 has 0 samples, fewer than the 1 shots");
  EXPECT_EQ(error_text([&] { static_cast<void>(pick_few_shots(labels, 2, 1, 0)); }),
            "sample 2 has label 2; classes are 0 to 1");
  EXPECT_EQ(error_text([&] { static_cast<void>(pick_few_shots(labels, 3, 0, 0)); }),
            "0 shots; a class needs at least 1");
}

// Samples come from ranks in any order, and some twice; one rank has none.
TEST(FeatureTable, GathersInTheOrderOfTheSamples) {
  run_ranks({3, 3}, std::chrono::seconds(20), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    FeatureTable table(2);
    const std::vector<std::vector<std::int64_t>> of_rank = {{4, 0}, {}, {2, 1, 0}};
    for (const std::int64_t sample : of_rank[world.rank()]) {
      Tensor row(DType::kF32, {1, 2});
      row.as<float>()[0] = static_cast<float>(sample);
      row.as<float>()[1] = 0.1F;
      Tensor label(DType::kI32, {1});
      *label.as<std::int32_t>() = static_cast<std::int32_t>(10 * sample);
      table.add(row, label, std::span(&sample, 1));
    }
    table.gather_over_ranks_blocking(context);
    EXPECT_EQ(std::vector(table.samples().begin(), table.samples().end()),
              (std::vector<std::int64_t>{0, 1, 2, 4}));
    EXPECT_EQ(std::vector(table.labels().begin(), table.labels().end()),
              (std::vector<std::int32_t>{0, 10, 20, 40}));
    EXPECT_EQ(table.row(3)[0], 4);
    EXPECT_EQ(table.row(3)[1], double{0.1F});
    FeatureTable none(2);
    none.gather_over_ranks_blocking(context);
    EXPECT_EQ(none.num_rows(), 0);
  });
}

TEST(FeatureTable, RefusesWhatDoesNotFit) {
  FeatureTable table(2);
  const Tensor row = Tensor::zeros(DType::kF32, {1, 3});
  const Tensor fitting = Tensor::zeros(DType::kF32, {1, 2});
  const Tensor label = Tensor::zeros(DType::kI32, {1});
  const Tensor two_labels = Tensor::zeros(DType::kI32, {2});
  const std::vector<std::int64_t> samples = {0, 1};
  EXPECT_EQ(error_text([&] { table.add(row, label, samples); }),
            "FeatureTable: features are (1, 3) on cpu, expected (B, 2) in host memory");
  EXPECT_EQ(error_text([&] { table.add(fitting, two_labels, samples); }),
            "FeatureTable: labels are i32 (2) on cpu, expected i32 (1) in host memory");
  EXPECT_EQ(error_text([&] { table.add(fitting, label, samples); }),
            "FeatureTable: 2 samples of a batch of 1");
  EXPECT_EQ(error_text([&] { static_cast<void>(table.rows(samples)); }), "FeatureTable: row 0 of 0");
}

}  // namespace
}  // namespace flex::testing
