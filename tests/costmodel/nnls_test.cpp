#include "costmodel/nnls.h"

#include <gtest/gtest.h>

#include <Eigen/QR>

#include "base/philox.h"

namespace flex::testing {
namespace {

Eigen::MatrixXd random_matrix(PhiloxStream& random, Eigen::Index rows, Eigen::Index columns) {
  return Eigen::MatrixXd::NullaryExpr(rows, columns, [&] { return random.normal(); });
}

TEST(Nnls, WorkedByHand) {
  // Unconstrained: x = (2, -1). With x1 = 0: x0 = (1 * 1 + 1 * 2) / 2.
  Eigen::MatrixXd matrix(2, 2);
  matrix << 1, 1, 1, 0;
  const Eigen::VectorXd x = solve_nnls(matrix, Eigen::Vector2d(1, 2));
  EXPECT_NEAR(x[0], 1.5, 1e-12);
  EXPECT_EQ(x[1], 0);
}

TEST(Nnls, NothingHelpsAgainstANegativeSide) {
  EXPECT_EQ(solve_nnls(Eigen::MatrixXd::Ones(3, 2), -Eigen::VectorXd::Ones(3)), Eigen::VectorXd::Zero(2));
  EXPECT_EQ(solve_nnls(Eigen::MatrixXd::Zero(3, 2), Eigen::VectorXd::Ones(3)), Eigen::VectorXd::Zero(2));
}

TEST(NnlsProperty, FindsExactNonNegativeSolutions) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    PhiloxStream random(seed);
    const Eigen::Index columns = 1 + random.below(12);
    const Eigen::MatrixXd matrix = random_matrix(random, columns + random.below(20), columns);
    Eigen::VectorXd expected(columns);
    for (double& value : expected) value = random.below(3) == 0 ? 0 : random.uniform();
    const Eigen::VectorXd x = solve_nnls(matrix, matrix * expected);
    EXPECT_LT((x - expected).norm(), 1e-8) << seed;
  }
}

// The conditions of Karush, Kuhn and Tucker, which are sufficient since the problem is convex: no unknown is
// below zero, the error has no slope along those above zero and does not fall along those at zero. With more
// unknowns than equations too, and with columns that are equal.
TEST(NnlsProperty, SolutionsAreOptimal) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    PhiloxStream random(seed, 1);
    const Eigen::Index rows = 1 + random.below(20);
    const Eigen::Index columns = 1 + random.below(25);
    Eigen::MatrixXd matrix = random_matrix(random, rows, columns);
    if (columns > 1 && random.below(3) == 0) matrix.col(columns - 1) = matrix.col(0);
    const Eigen::VectorXd right = random_matrix(random, rows, 1);
    const Eigen::VectorXd x = solve_nnls(matrix, right);
    const Eigen::VectorXd descent = matrix.transpose() * (right - matrix * x);
    for (Eigen::Index i = 0; i < columns; ++i) {
      ASSERT_GE(x[i], 0) << seed;
      ASSERT_LE(descent[i], 1e-9) << seed;
      if (x[i] > 0) {
        ASSERT_NEAR(descent[i], 0, 1e-9) << seed;
      }
    }
  }
}

}  // namespace
}  // namespace flex::testing
