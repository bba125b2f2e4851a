#include "cli/evaluation_table.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace flex::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Of each label the classes that its samples were taken for, by the highest logit.
ClassifierEvaluation evaluation_of(std::int64_t num_classes,
                                   const std::vector<std::pair<int, int>>& samples) {
  ClassifierEvaluation evaluation(num_classes);
  for (const auto& [label, predicted] : samples) {
    Tensor logits = Tensor::zeros(DType::kF32, {1, num_classes});
    logits.as<float>()[predicted] = 1;
    Tensor labels(DType::kI32, {1});
    *labels.as<std::int32_t>() = label;
    evaluation.add(logits, labels, 1);
  }
  return evaluation;
}

// Cross entropy of logits (1, 0, 0): ln(e + 2) - 1 = 0.5514 if right, and 1 more if wrong.
TEST(EvaluationText, OfFewClasses) {
  const std::vector<std::string> names = {"cat", "dog", "cow"};
  EXPECT_EQ(evaluation_text(evaluation_of(3, {{0, 0}, {0, 1}, {0, 1}, {1, 1}}), names),
            "4 images: top-1 50.00%, top-5 100.00%, cross entropy 1.0514\n"
            "\n"
            "class  images  right  accuracy\n"
            "-----  ------  -----  --------\n"
            "cat         3      1     33.3%\n"
            "dog         1      1    100.0%\n"
            "\n"
            "class  taken for  images\n"
            "-----  ---------  ------\n"
            "cat    dog             2\n");
}

TEST(EvaluationText, OfManyClassesHasTheWorst) {
  std::vector<std::pair<int, int>> samples;
  for (int label = 0; label < 30; ++label) samples.emplace_back(label, label < 25 ? label : 0);
  const std::string text = evaluation_text(evaluation_of(30, samples));
  EXPECT_THAT(text, HasSubstr("accuracy\n-----  ------  -----  --------\n25          1      0      0.0%\n"));
  EXPECT_THAT(text, HasSubstr("\n14          1      1    100.0%\n"));  // the last of twenty
  EXPECT_THAT(text, Not(HasSubstr("\n15          1 ")));
  EXPECT_THAT(text, HasSubstr("\n29     0               1\n"));
}

TEST(EvaluationText, OfNothing) {
  EXPECT_THAT(evaluation_text(ClassifierEvaluation(2)), HasSubstr("0 images: top-1 0.00%"));
}

}  // namespace
}  // namespace flex::cli
