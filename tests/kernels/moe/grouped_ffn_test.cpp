#include "kernels/moe/grouped_ffn.h"

#include <cmath>

#include "tests/kernels/moe/ffn_case.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

const std::vector<std::vector<std::int64_t>> kCounts = {{0, 0, 0}, {5, 0, 13}, {13, 13, 13}, {1, 12, 0}};
constexpr FfnSizes kSizes = {3, 13, 9, 21};

class GroupedFfn : public KernelTest {
 protected:
  void run(FfnCase& ffn, const std::vector<std::int64_t>& counts) {
    grouped_ffn(ffn.forward(), counts, stream());
    run_backward(ffn, counts);
  }
  void run_backward(FfnCase& ffn, const std::vector<std::int64_t>& counts) {
    grouped_ffn_backward_data(ffn.backward_data(), counts, stream());
    grouped_ffn_backward_fc1(ffn.backward_weights(), counts, stream());
    grouped_ffn_backward_fc2(ffn.backward_weights(), counts, stream());
    wait();
  }
};

// The same as all rows, where the rows behind the counts are zero in dy: they add nothing to a gradient.
void zero_rows_behind(Tensor& rows, const std::vector<std::int64_t>& counts) {
  std::vector<double> values = values_of(rows);
  const std::int64_t columns = rows.shape()[2];
  for (std::int64_t expert = 0; expert < rows.shape()[0]; ++expert) {
    for (std::int64_t row = counts[expert]; row < rows.shape()[1]; ++row) {
      for (std::int64_t c = 0; c < columns; ++c) values[(expert * rows.shape()[1] + row) * columns + c] = 0.0;
    }
  }
  assign(rows, values);
}

// Overwrites the rows of `to` that count with those of `from`.
void copy_counted_rows(Tensor& to, const Tensor& from, const std::vector<std::int64_t>& counts) {
  std::vector<double> values = values_of(to);
  const std::vector<double> counted = values_of(from);
  const std::int64_t rows = to.shape()[1];
  const std::int64_t columns = to.shape()[2];
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / columns;
    if (row % rows < counts[row / rows]) values[i] = counted[i];
  }
  assign(to, values);
}

// `actual` where a row counts; NaN, untouched poison, everywhere behind.
::testing::AssertionResult rows_match(const Tensor& actual, const Tensor& expected,
                                      const std::vector<std::int64_t>& counts, double tolerance) {
  std::vector<double> counted_actual;
  std::vector<double> counted_expected;
  const std::vector<double> all_actual = values_of(actual);
  const std::vector<double> all_expected = values_of(expected);
  const std::int64_t rows = actual.shape()[1];
  const std::int64_t columns = actual.shape()[2];
  for (std::size_t i = 0; i < all_actual.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / columns;
    if (row % rows < counts[row / rows]) {
      counted_actual.push_back(all_actual[i]);
      counted_expected.push_back(all_expected[i]);
    } else if (!std::isnan(all_actual[i])) {
      return ::testing::AssertionFailure() << "element " << i << " is behind the counted rows and written";
    }
  }
  return close(counted_actual, counted_expected, tolerance);
}

TEST_P(GroupedFfn, EqualsAllRowsWhereRowsCount) {
  for (const FfnVariant& variant : kFfnVariants) {
    for (const auto& counts : kCounts) {
      FfnCase grouped(variant, kSizes, dtype(), device());
      FfnCase all(variant, kSizes, dtype(), device());
      zero_rows_behind(all.dy, counts);
      grouped_ffn(grouped.forward(), counts, stream());
      expert_ffn(all.forward(), stream());
      wait();
      const double hidden_tolerance = 2.0 * product_tolerance(dtype(), kSizes.model_dim + 1);
      EXPECT_TRUE(rows_match(grouped.hidden, all.hidden, counts, hidden_tolerance))
          << describe(variant, kSizes);
      // The two products may round a value near zero to different sides of relu's kink, whose slope jumps
      // there: the backward passes, which are compared next, begin with the same hidden rows.
      copy_counted_rows(all.hidden, grouped.hidden, counts);
      run_backward(grouped, counts);
      expert_ffn_backward_data(all.backward_data(), stream());
      expert_ffn_backward_weights(all.backward_weights(), stream());
      wait();

      const std::string what = describe(variant, kSizes);
      const double rows_tolerance = 2.0 * ffn_tolerance(dtype(), kSizes.model_dim, kSizes.hidden_dim);
      const double sums_tolerance = 2.0 * ffn_tolerance(dtype(), kSizes.model_dim, kSizes.rows);
      EXPECT_TRUE(rows_match(grouped.y, all.y, counts, rows_tolerance)) << what;
      EXPECT_TRUE(rows_match(grouped.dhidden, all.dhidden, counts, rows_tolerance)) << what;
      EXPECT_TRUE(rows_match(grouped.dx, all.dx, counts, rows_tolerance)) << what;
      EXPECT_TRUE(close(values_of(grouped.dfc1_w), values_of(all.dfc1_w), sums_tolerance)) << what;
      EXPECT_TRUE(close(values_of(grouped.dfc2_w), values_of(all.dfc2_w), sums_tolerance)) << what;
      if (variant.biases) {
        EXPECT_TRUE(close(values_of(grouped.dfc1_bias), values_of(all.dfc1_bias), sums_tolerance)) << what;
        EXPECT_TRUE(close(values_of(grouped.dfc2_bias), values_of(all.dfc2_bias), sums_tolerance)) << what;
      }
    }
  }
}

// As the layer does where memory is short: see ExpertFfnBackward.GradientsMayTakeThePlaceOfTheirRows.
TEST_P(GroupedFfn, GradientsMayTakeThePlaceOfTheirRows) {
  for (const FfnVariant& variant : kFfnVariants) {
    for (const auto& counts : kCounts) {
      FfnCase apart(variant, kSizes, dtype(), device());
      FfnCase ffn(variant, kSizes, dtype(), device());
      run(apart, counts);
      grouped_ffn(ffn.forward(), counts, stream());
      grouped_ffn_backward_fc2(ffn.backward_weights(), counts, stream());
      Tensor tile = real_output({kSizes.experts, 5, kSizes.hidden_dim});
      grouped_ffn_backward_data(ffn.backward_data_in_place(tile), counts, stream());
      grouped_ffn_backward_fc1(ffn.backward_weights_in_place(), counts, stream());
      wait();
      const double rows_tolerance = ffn_tolerance(dtype(), kSizes.model_dim, kSizes.hidden_dim);
      const double sums_tolerance = ffn_tolerance(dtype(), kSizes.model_dim, kSizes.rows);
      const std::string what = describe(variant, kSizes);
      for (std::size_t expert = 0; expert < counts.size(); ++expert) {
        const auto rows = [&](const Tensor& from) {
          const std::vector<double> all = values_of(from);
          const auto begin =
              all.begin() + static_cast<std::ptrdiff_t>(expert) * kSizes.rows * kSizes.model_dim;
          return std::vector<double>(begin, begin + counts[expert] * kSizes.model_dim);
        };
        EXPECT_TRUE(close(rows(ffn.dy), rows(apart.dx), rows_tolerance)) << what;
      }
      EXPECT_TRUE(close(values_of(ffn.dfc1_w), values_of(apart.dfc1_w), sums_tolerance)) << what;
      EXPECT_TRUE(close(values_of(ffn.dup_w), values_of(apart.dup_w), sums_tolerance)) << what;
      EXPECT_EQ(values_of(ffn.dfc2_w), values_of(apart.dfc2_w)) << what;
    }
  }
}

TEST_P(GroupedFfn, ExpertWithoutRowsGetsZeroGradients) {
  FfnCase ffn({}, kSizes, dtype(), device());
  run(ffn, {13, 0, 1});
  const std::vector<double> dfc1_w = values_of(ffn.dfc1_w);
  const std::vector<double> dfc2_bias = values_of(ffn.dfc2_bias);
  for (std::int64_t i = 21 * 9; i < 2 * 21 * 9; ++i) EXPECT_EQ(dfc1_w[i], 0.0);
  for (std::int64_t i = 9; i < 18; ++i) EXPECT_EQ(dfc2_bias[i], 0.0);
}

TEST_P(GroupedFfn, SaysWhatIsWrong) {
  FfnCase ffn({}, kSizes, dtype(), device());
  const auto text = [&](const std::vector<std::int64_t>& counts) {
    return error_text([&] { grouped_ffn(ffn.forward(), counts, stream()); });
  };
  EXPECT_EQ(text({1, 2}), "grouped_ffn: rows_per_expert has 2 counts for 3 experts");
  EXPECT_EQ(text({1, 14, 0}), "grouped_ffn: rows_per_expert[1] is 14, expected 0 to 13");
  EXPECT_EQ(text({1, 2, -1}), "grouped_ffn: rows_per_expert[2] is -1, expected 0 to 13");
  const std::vector<std::int64_t> counts = {1, 2, 3};
  ExpertFfnBackwardDataArgs args = ffn.backward_data();
  args.dx.shape = {3, 13, 8};
  EXPECT_EQ(error_text([&] { grouped_ffn_backward_data(args, counts, stream()); }),
            "grouped_ffn_backward_data: dx is (3, 13, 8), expected (3, 13, 9)");
}

INSTANTIATE_TEST_SUITE_P(Backends, GroupedFfn, ::testing::ValuesIn(all_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
