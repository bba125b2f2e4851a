#include "costmodel/nnls.h"

#include <Eigen/QR>
#include <limits>
#include <vector>

#include "base/require.h"

namespace flex {
namespace {

/// Lawson and Hanson's algorithm: unknowns are at zero or free, and one after another is let free.
class ActiveSet {
 public:
  ActiveSet(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& right)
      : matrix_(matrix),
        right_(right),
        x_(Eigen::VectorXd::Zero(matrix.cols())),
        states_(static_cast<std::size_t>(matrix.cols()), State::kZero),
        tolerance_(10 * std::numeric_limits<double>::epsilon() * matrix.cwiseAbs().sum() *
                   right.cwiseAbs().sum()),
        most_steps_(30 * (matrix.cols() + 1)) {}

  [[nodiscard]] Eigen::VectorXd solve() {
    for (Eigen::Index enters = steepest(); enters >= 0; enters = steepest()) {
      state(enters) = State::kFree;
      if (!descend(enters)) state(enters) = State::kRefused;
    }
    return x_;
  }

 private:
  enum class State : std::uint8_t { kZero, kFree, kRefused };  // kRefused: gains nothing, by rounding

  State& state(Eigen::Index unknown) { return states_[static_cast<std::size_t>(unknown)]; }

  /// Of the unknowns at zero, the one whose growth lowers the error most; -1 if none does.
  [[nodiscard]] Eigen::Index steepest() {
    const Eigen::VectorXd descent = matrix_.transpose() * (right_ - matrix_ * x_);
    Eigen::Index best = -1;
    for (Eigen::Index i = 0; i < x_.size(); ++i) {
      if (state(i) != State::kZero || descent[i] <= tolerance_) continue;
      if (best < 0 || descent[i] > descent[best]) best = i;
    }
    return best;
  }

  /// Goes to the least squares of the free unknowns, setting free ones to zero that would fall below it.
  /// False: nothing has changed.
  [[nodiscard]] bool descend(Eigen::Index entered) {
    for (;;) {
      require<Error>(++steps_ <= most_steps_, "non-negative least squares: no solution after {} steps",
                     most_steps_);
      const Eigen::VectorXd target = free_least_squares();
      if (x_[entered] == 0 && target[entered] <= 0) return false;
      const Eigen::Index blocks = first_to_reach_zero(target);
      if (blocks < 0) {
        x_ = target;
        for (State& one : states_) one = one == State::kRefused ? State::kZero : one;
        return true;
      }
      if (x_[blocks] > 0) x_ += x_[blocks] / (x_[blocks] - target[blocks]) * (target - x_);
      x_[blocks] = 0;
      state(blocks) = State::kZero;
    }
  }

  /// Zero where not free.
  [[nodiscard]] Eigen::VectorXd free_least_squares() {
    std::vector<Eigen::Index> columns;
    for (Eigen::Index i = 0; i < x_.size(); ++i) {
      if (state(i) == State::kFree) columns.push_back(i);
    }
    Eigen::VectorXd target = Eigen::VectorXd::Zero(x_.size());
    target(columns) = matrix_(Eigen::all, columns).colPivHouseholderQr().solve(right_);
    return target;
  }

  /// On the way from x to `target`; -1 if none does.
  [[nodiscard]] Eigen::Index first_to_reach_zero(const Eigen::VectorXd& target) {
    Eigen::Index first = -1;
    double least = 1;
    for (Eigen::Index i = 0; i < x_.size(); ++i) {
      if (state(i) != State::kFree || target[i] > 0) continue;
      const double step = x_[i] == 0 ? 0 : x_[i] / (x_[i] - target[i]);
      if (first >= 0 && step >= least) continue;
      first = i;
      least = step;
    }
    return first;
  }

  const Eigen::MatrixXd& matrix_;
  const Eigen::VectorXd& right_;
  Eigen::VectorXd x_;
  std::vector<State> states_;
  double tolerance_;
  Eigen::Index most_steps_;
  Eigen::Index steps_ = 0;
};

}  // namespace

Eigen::VectorXd solve_nnls(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& right) {
  return ActiveSet(matrix, right).solve();
}

}  // namespace flex
