#include "costmodel/calibration_fit.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "costmodel/calibration_unknowns.h"
#include "costmodel/cost_parameter_fields.h"
#include "costmodel/error_band.h"
#include "costmodel/nnls.h"
#include "costmodel/operation_roofline.h"

namespace flex {
namespace {

using Vector = Eigen::VectorXd;

/// Huber's weights of residuals, whose spread is taken from their median.
Vector huber_weights(const Vector& residuals, double threshold) {
  constexpr double kMadToSigma = 1.4826;  // of a normal distribution
  constexpr double kLeastSpread = 1e-6;   // relative: below it all residuals are rounding
  const Vector sizes = residuals.cwiseAbs();
  const double spread =
      std::max(kMadToSigma * quantile(std::vector<double>(sizes.begin(), sizes.end()), 0.5), kLeastSpread);
  return sizes.unaryExpr([&](double r) { return r <= threshold * spread ? 1 : threshold * spread / r; });
}

/// Mean of Huber's loss with a given spread.
double huber_loss(const Vector& residuals, double limit) {
  const auto loss = [&](double r) {
    const double size = std::abs(r);
    return size <= limit ? r * r / 2 : limit * (size - limit / 2);
  };
  return residuals.unaryExpr(loss).mean();
}

class SharedFitter {
 public:
  SharedFitter(const Cluster& cluster, std::span<const FitPoint> points, const CostParameters& start,
               double huber_threshold)
      : cluster_(cluster),
        points_(points),
        start_(start),
        at_start_(to_unknowns(start)),
        usual_(at_start_),
        threshold_(huber_threshold) {
    // Where the start has none: a microsecond, or contention that doubles at a thousand peers.
    constexpr double kUsualPeers = 1000;
    for (double& size : usual_) size = size > 0 ? size : 1;
    if (at_start_[kInterContention] == 0) {
      usual_[kInterContention] =
          usual_[kInterBytes] / std::pow(kUsualPeers, start.inter_node.contention_exponent);
    }
  }

  [[nodiscard]] SharedFit fit() {
    // A start at which arithmetic costs next to nothing would take every product for memory-bound, and so
    // would find nothing about arithmetic; and the same of links.
    for (const double arithmetic : {1.0, 30.0, 0.1}) {
      for (const double network : {1.0, 30.0}) {
        Vector x = at_start_;
        x[kMatrix] *= arithmetic;
        x[kMatrixRows] *= arithmetic;
        x[kInterBytes] *= network;
        descend(x);
        if (!depends_on(kInterBytes)) break;
      }
    }
    SharedFit result{.parameters = to_parameters(best_, start_)};
    const Eigen::MatrixXd slopes = slopes_at(best_);
    for (Eigen::Index i = 0; i < kNumUnknowns; ++i) {
      if (slopes.col(i).isZero(0)) keep(result, key_of(static_cast<Unknown>(i)));
    }
    return result;
  }

 private:
  static constexpr int kMaxSteps = 40;
  static constexpr double kLossLimit = 0.2;     // residuals beyond it count linearly when fits are compared
  static constexpr double kPriorWeight = 1e-3;  // of the start, for what samples leave open

  /// To the bit: not turned into an unknown and back.
  void keep(SharedFit& result, std::string_view key) const {
    result.kept.emplace_back(key);
    for (const CostParameterField& field : cost_parameter_fields()) {
      if (field.path() == key) field.of(result.parameters) = field.get(start_);
    }
  }

  [[nodiscard]] Vector durations_at(const Vector& x) const {
    const OperationRoofline roofline(cluster_, to_parameters(x, start_));
    Vector us(static_cast<Eigen::Index>(points_.size()));
    for (std::size_t i = 0; i < points_.size(); ++i) {
      us[static_cast<Eigen::Index>(i)] = roofline.duration_us(points_[i].work) / points_[i].measured_us;
    }
    return us;
  }

  /// Slopes of durations over measured ones. Within a piece durations are linear, so a difference is exact.
  [[nodiscard]] Eigen::MatrixXd slopes_at(const Vector& x) const {
    constexpr double kStep = 1e-6;
    const Vector here = durations_at(x);
    Eigen::MatrixXd slopes(here.size(), x.size());
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const double step = kStep * scale(i, x);
      Vector moved = x;
      moved[i] += step;
      slopes.col(i) = (durations_at(moved) - here) / step;
      // What only rounding moves does not depend on it.
      const double most = slopes.col(i).cwiseAbs().maxCoeff() * step;
      if (most < 1e-12) slopes.col(i).setZero();
    }
    return slopes;
  }

  [[nodiscard]] double scale(Eigen::Index unknown, const Vector& x) const {
    return std::max(x[unknown], usual_[unknown]);
  }

  [[nodiscard]] bool depends_on(Eigen::Index unknown) const {
    return !slopes_at(at_start_).col(unknown).isZero(0);
  }

  void descend(Vector x) {
    for (int step = 0; step < kMaxSteps; ++step) {
      const Vector residuals = durations_at(x).array() - 1;
      const double loss = huber_loss(residuals, kLossLimit);
      if (best_.size() == 0 || loss < best_loss_) {
        best_ = x;
        best_loss_ = loss;
      }
      const Vector next = solve(x, huber_weights(residuals, threshold_));
      if ((next - x).cwiseQuotient(next.cwiseMax(x).array().max(1e-12).matrix()).cwiseAbs().maxCoeff() < 1e-7)
        break;
      // Pieces may take turns for ever; half of the way settles between them.
      x = step < kMaxSteps / 2 ? next : Vector((x + next) / 2);
    }
  }

  /// The linear fit around x.
  [[nodiscard]] Vector solve(const Vector& x, const Vector& weights) const {
    const Eigen::MatrixXd slopes = slopes_at(x);
    const Eigen::Index rows = slopes.rows();
    const Eigen::Index columns = slopes.cols();
    Eigen::MatrixXd matrix = Eigen::MatrixXd::Zero(rows + columns, columns);
    Vector right = Vector::Zero(rows + columns);
    const Vector roots = weights.cwiseSqrt();
    matrix.topRows(rows) = roots.asDiagonal() * slopes;
    // Durations are their slopes times the unknowns, but for a limited efficiency.
    right.head(rows) = roots.cwiseProduct(Vector::Ones(rows) - durations_at(x) + slopes * x);
    const double prior = kPriorWeight * std::sqrt(static_cast<double>(rows));
    for (Eigen::Index i = 0; i < columns; ++i) {
      matrix(rows + i, i) = prior / scale(i, x);
      right[rows + i] = prior * at_start_[i] / scale(i, x);
    }
    // Unknowns of like size make products of like size.
    Vector scales(columns);
    for (Eigen::Index i = 0; i < columns; ++i) scales[i] = scale(i, x);
    return scales.cwiseProduct(solve_nnls(matrix * scales.asDiagonal(), right));
  }

  const Cluster& cluster_;
  std::span<const FitPoint> points_;
  const CostParameters& start_;
  Vector at_start_;
  Vector usual_;  // sizes, above zero
  double threshold_;
  Vector best_;
  double best_loss_ = 0;
};

}  // namespace

Sizes sizes_of(const OperationWork& w) {
  return {w.kind,      w.dtype, w.world,          w.batch, w.rows, w.columns,
          w.model_dim, w.peers, w.bytes_per_peer, w.bytes, w.flops};
}

double relative_residual(double predicted_us, const FitPoint& point) {
  return predicted_us / point.measured_us - 1;
}

SharedFit fit_shared(const Cluster& cluster, std::span<const FitPoint> points, const CostParameters& start,
                     double huber_threshold) {
  return SharedFitter(cluster, points, start, huber_threshold).fit();
}

KindParameters fit_kind(const OperationRoofline& roofline, std::span<const FitPoint> points,
                        double huber_threshold) {
  constexpr int kSteps = 30;
  const auto rows = static_cast<Eigen::Index>(points.size());
  Eigen::MatrixXd matrix(rows, 2);
  for (Eigen::Index i = 0; i < rows; ++i) {
    const FitPoint& point = points[static_cast<std::size_t>(i)];
    matrix(i, 0) = 1 / point.measured_us;
    matrix(i, 1) = roofline.variable_us(point.work) / point.measured_us;
  }
  const Vector ones = Vector::Ones(rows);
  Vector weights = ones;
  Vector x = Vector::Zero(2);
  for (int step = 0; step < kSteps; ++step) {
    const Vector roots = weights.cwiseSqrt();
    const Vector next = solve_nnls(roots.asDiagonal() * matrix, roots);
    const bool settled = (next - x).norm() <= 1e-9 * next.norm();
    x = next;
    if (settled) break;
    weights = huber_weights(matrix * x - ones, huber_threshold);
  }
  return {.fixed_us = x[0], .time_factor = x[1]};
}

}  // namespace flex
