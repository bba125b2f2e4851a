#pragma once

#include <Eigen/Core>

namespace flex {

/// Private to the cost model: x >= 0 that makes |matrix x - right| least. More unknowns than equations are
/// allowed; then some solution is returned.
/// @throws Error if it has not found one after many more steps than there are unknowns.
/// @source active sets: Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23
[[nodiscard]] Eigen::VectorXd solve_nnls(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& right);

}  // namespace flex
