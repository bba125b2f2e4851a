#include "models/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/philox.h"
#include "kernels/host_element.h"
#include "runtime/launch.h"
#include "tests/support/compare.h"

namespace flex::testing {
namespace {

Tensor logits_of(const std::vector<std::vector<double>>& rows, DType dtype = DType::kF64) {
  Tensor tensor(dtype, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size())});
  std::int64_t at = 0;
  for (const auto& row : rows) {
    for (const double value : row) set_host_element(tensor, at++, value);
  }
  return tensor;
}

Tensor labels_of(const std::vector<std::int32_t>& labels) {
  Tensor tensor(DType::kI32, {static_cast<std::int64_t>(labels.size())});
  std::ranges::copy(labels, tensor.as<std::int32_t>());
  return tensor;
}

// Labels at place 0, 4 and 5 of the order; then rows whose logits are all alike, where the order is that of
// the classes; the last row is not valid.
TEST(Evaluation, MatchesAHandWorkedExample) {
  const std::vector<double> rising = {0, 1, 2, 3, 4, 5, 6};
  const std::vector<double> level(7, 0.5);
  ClassifierEvaluation evaluation(7);
  evaluation.add(logits_of({rising, rising, rising, level, level, level, rising}, DType::kF32),
                 labels_of({6, 2, 1, 0, 4, 5, 6}), 6);
  EXPECT_EQ(evaluation.num_samples(), 6);
  EXPECT_DOUBLE_EQ(evaluation.top1(), 2 / 6.0);  // the first and the fourth
  EXPECT_DOUBLE_EQ(evaluation.top5(), 4 / 6.0);  // all but the third and the last
  EXPECT_EQ(evaluation.num_of_class(6), 1);
  EXPECT_EQ(evaluation.num_right(6), 1);
  EXPECT_EQ(evaluation.num_right(4), 0);
  EXPECT_EQ(evaluation.confusion(1, 6), 1);
  EXPECT_EQ(evaluation.confusion(5, 0), 1);
  EXPECT_EQ(evaluation.most_confused(2), (std::vector<ConfusedPair>{{1, 6, 1}, {2, 6, 1}}));
}

// softmax(ln 3, 0) = (3/4, 1/4): -ln(3/4) for the first label and -ln(1/4) for the second.
TEST(Evaluation, MeansTheCrossEntropy) {
  ClassifierEvaluation evaluation(2);
  EXPECT_EQ(evaluation.cross_entropy(), 0);
  EXPECT_EQ(evaluation.top1(), 0);
  const double ln3 = std::log(3.0);
  evaluation.add(logits_of({{ln3, 0}, {ln3 + 1000, 1000}}), labels_of({0, 1}), 2);
  EXPECT_NEAR(evaluation.cross_entropy(), (std::log(4.0 / 3) + std::log(4.0)) / 2, 1e-12);
}

TEST(Evaluation, ARowWithANanIsWrong) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  ClassifierEvaluation evaluation(2);
  evaluation.add(logits_of({{kNan, 1}, {1, kNan}, {2, 1}}), labels_of({0, 0, 0}), 3);
  EXPECT_EQ(evaluation.num_samples(), 3);
  EXPECT_DOUBLE_EQ(evaluation.top1(), 1 / 3.0);
  EXPECT_DOUBLE_EQ(evaluation.top5(), 1 / 3.0);
  EXPECT_TRUE(std::isnan(evaluation.cross_entropy()));
  EXPECT_EQ(evaluation.most_confused(9).size(), 0U);
  EXPECT_TRUE(to_json(evaluation)["cross_entropy"].is_null());
}

struct Samples {
  std::vector<std::vector<double>> rows;
  std::vector<std::int32_t> labels;
};

// Coarse logits, so that many are equal.
Samples random_samples(std::int64_t count, std::int64_t classes, std::uint64_t seed) {
  PhiloxStream random(seed);
  Samples samples;
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<double>& row = samples.rows.emplace_back();
    for (std::int64_t c = 0; c < classes; ++c) row.push_back(static_cast<double>(random.below(6)));
    samples.labels.push_back(static_cast<std::int32_t>(random.below(classes)));
  }
  return samples;
}

// Classes in the order of their logits, then of their numbers.
TEST(Evaluation, AgreesWithASort) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::int64_t classes = 1 + static_cast<std::int64_t>(seed);
    const Samples samples = random_samples(50, classes, seed);
    ClassifierEvaluation evaluation(classes);
    evaluation.add(logits_of(samples.rows), labels_of(samples.labels), 50);
    int top1 = 0;
    int top5 = 0;
    std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> confusion;
    for (std::size_t i = 0; i < samples.rows.size(); ++i) {
      std::vector<std::pair<double, std::int32_t>> order;
      for (std::int32_t c = 0; c < classes; ++c) order.emplace_back(-samples.rows[i][c], c);
      std::ranges::sort(order);
      const auto place =
          std::ranges::find(order, samples.labels[i], &std::pair<double, std::int32_t>::second) -
          order.begin();
      top1 += place < 1 ? 1 : 0;
      top5 += place < 5 ? 1 : 0;
      ++confusion[{samples.labels[i], order[0].second}];
    }
    EXPECT_DOUBLE_EQ(evaluation.top1(), top1 / 50.0);
    EXPECT_DOUBLE_EQ(evaluation.top5(), top5 / 50.0);
    for (std::int64_t label = 0; label < classes; ++label) {
      for (std::int64_t predicted = 0; predicted < classes; ++predicted)
        EXPECT_EQ(evaluation.confusion(label, predicted), (confusion[{label, predicted}]));
    }
  }
}

// Three ranks with 5, 0 and 12 of 17 samples know together what one knows of all.
TEST(Evaluation, SumsOverRanks) {
  const Samples samples = random_samples(17, 9, 4);
  ClassifierEvaluation whole(9);
  whole.add(logits_of(samples.rows), labels_of(samples.labels), 17);
  run_ranks({3, 3}, std::chrono::seconds(20), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const std::size_t begins[] = {0, 5, 5, 17};
    ClassifierEvaluation evaluation(9);
    for (std::size_t i = begins[world.rank()]; i < begins[world.rank() + 1]; ++i)
      evaluation.add(logits_of({samples.rows[i]}), labels_of({samples.labels[i]}), 1);
    evaluation.sum_over_ranks_blocking(context);
    EXPECT_NEAR(evaluation.cross_entropy(), whole.cross_entropy(), 1e-12);
    nlohmann::ordered_json actual = to_json(evaluation);
    nlohmann::ordered_json expected = to_json(whole);
    actual.erase("cross_entropy");  // summed in another order
    expected.erase("cross_entropy");
    EXPECT_EQ(actual, expected);
  });
}

TEST(Evaluation, RanksOfDifferentClassesAreNamed) {
  run_ranks({2, 2}, std::chrono::seconds(20), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    ClassifierEvaluation evaluation(world.rank() == 0 ? 3 : 4);
    EXPECT_EQ(error_text([&] { evaluation.sum_over_ranks_blocking(context); }),
              "Evaluation: rank 1 has 4 classes, rank 0 has 3");
  });
}

TEST(Evaluation, PrintsAllOfFewClassesAndTheMostConfusedOfMany) {
  ClassifierEvaluation few(2);
  few.add(logits_of({{1, 0}, {1, 0}, {0, 1}}), labels_of({0, 1, 1}), 3);
  const std::vector<std::string> names = {"cat", "dog"};
  const auto json = to_json(few, names);
  EXPECT_EQ(json["samples"], 3);
  EXPECT_EQ(json["confusion"], nlohmann::ordered_json::parse("[[1, 0], [1, 1]]"));
  EXPECT_EQ(json["classes"][1],
            nlohmann::ordered_json::parse(R"({"class": "dog", "samples": 2, "accuracy": 0.5})"));

  ClassifierEvaluation many(kMaxConfusionClasses + 1);
  std::vector<double> row(kMaxConfusionClasses + 1);
  row[7] = 1;
  many.add(logits_of({row, row, row}), labels_of({9, 3, 9}), 3);
  EXPECT_EQ(to_json(many)["most_confused"],
            nlohmann::ordered_json::parse(R"([{"class": 9, "predicted": 7, "count": 2},
                                      {"class": 3, "predicted": 7, "count": 1}])"));
  EXPECT_TRUE(to_json(many)["classes"][0]["accuracy"].is_null());
}

TEST(Evaluation, RefusesWhatDoesNotFit) {
  ClassifierEvaluation evaluation(2);
  const auto error = [&](const Tensor& logits, const Tensor& labels, std::int64_t valid) {
    return error_text([&] { evaluation.add(logits, labels, valid); });
  };
  EXPECT_EQ(error(logits_of({{1, 2, 3}}), labels_of({0}), 1),
            "Evaluation: logits are (1, 3) on cpu, expected (B, 2) in host memory");
  EXPECT_EQ(error(logits_of({{1, 2}}), labels_of({0, 1}), 1),
            "Evaluation: labels are i32 (2) on cpu, expected i32 (1) in host memory");
  EXPECT_EQ(error(logits_of({{1, 2}}), labels_of({0}), 2), "Evaluation: 2 of 1 rows are valid");
  EXPECT_EQ(error(logits_of({{1, 2}, {1, 2}}), labels_of({0, 2}), 2),
            "Evaluation: sample 1 has label 2; classes are 0 to 1");
  EXPECT_EQ(evaluation.num_samples(), 0);
  EXPECT_EQ(error_text([&] { evaluation.merge(ClassifierEvaluation(3)); }),
            "Evaluation: 2 classes cannot be merged with 3");
  EXPECT_EQ(error_text([] { ClassifierEvaluation none(0); }), "Evaluation: 0 classes; there is at least 1");
  const std::vector<std::string> names = {"one"};
  EXPECT_EQ(error_text([&] { static_cast<void>(to_json(evaluation, names)); }),
            "an evaluation of 2 classes has 1 class names");
}

}  // namespace
}  // namespace flex::testing
