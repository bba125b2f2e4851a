#include "models/linear_probe.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>

#include "base/require.h"

namespace flex {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowVector = Eigen::RowVectorXd;

// A feature that is the same in all samples tells nothing; it stays 0.
constexpr double kLeastDeviation = 1e-12;

Matrix matrix_of(const FeatureTable& samples) {
  Matrix matrix(samples.num_rows(), samples.num_features());
  for (std::int64_t i = 0; i < samples.num_rows(); ++i) {
    const std::span<const double> row = samples.row(i);
    matrix.row(i) = Eigen::Map<const RowVector>(row.data(), samples.num_features());
  }
  return matrix;
}

Matrix targets_of(const FeatureTable& samples, std::int64_t num_classes) {
  Matrix targets = Matrix::Constant(samples.num_rows(), num_classes, -1);
  for (std::int64_t i = 0; i < samples.num_rows(); ++i) {
    const std::int32_t label = samples.labels()[static_cast<std::size_t>(i)];
    require(label >= 0 && label < num_classes, "LinearProbe: sample {} has label {}; classes are 0 to {}",
            samples.samples()[static_cast<std::size_t>(i)], label, num_classes - 1);
    targets(i, label) = 1;
  }
  return targets;
}

Matrix ridge_weights(const Matrix& x, const Matrix& y, double ridge) {
  if (x.rows() < x.cols()) {
    const Matrix gram = x * x.transpose() + ridge * Matrix::Identity(x.rows(), x.rows());
    return x.transpose() * gram.llt().solve(y);
  }
  const Matrix gram = x.transpose() * x + ridge * Matrix::Identity(x.cols(), x.cols());
  return gram.llt().solve(x.transpose() * y);
}

}  // namespace

struct LinearProbe::Weights {
  RowVector mean;       // (C) of the features
  RowVector scale;      // (C) 1 / deviation, or 0
  Matrix weight;        // (C, K)
  RowVector intercept;  // (K)
};

LinearProbe::LinearProbe(const FeatureTable& samples, std::int64_t num_classes, double ridge)
    : weights_(std::make_unique<Weights>()) {
  require(samples.num_rows() >= 1, "LinearProbe: there are no samples");
  require(ridge > 0 && std::isfinite(ridge), "LinearProbe: ridge is {}; it must be above 0", ridge);
  Matrix x = matrix_of(samples);
  require(x.allFinite(), "LinearProbe: the features are not all finite");
  Matrix y = targets_of(samples, num_classes);
  weights_->mean = x.colwise().mean();
  x.rowwise() -= weights_->mean;
  const RowVector deviation = (x.colwise().squaredNorm() / static_cast<double>(x.rows())).cwiseSqrt();
  weights_->scale = deviation.unaryExpr([](double d) { return d > kLeastDeviation ? 1 / d : 0; });
  x.array().rowwise() *= weights_->scale.array();
  weights_->intercept = y.colwise().mean();
  y.rowwise() -= weights_->intercept;
  weights_->weight = ridge_weights(x, y, ridge);
}

LinearProbe::~LinearProbe() = default;
LinearProbe::LinearProbe(LinearProbe&&) noexcept = default;
LinearProbe& LinearProbe::operator=(LinearProbe&&) noexcept = default;

Tensor LinearProbe::scores(const FeatureTable& samples) const {
  require(samples.num_features() == weights_->mean.cols(), "LinearProbe: {} features, fitted on {}",
          samples.num_features(), weights_->mean.cols());
  Matrix x = matrix_of(samples);
  x.rowwise() -= weights_->mean;
  x.array().rowwise() *= weights_->scale.array();
  Tensor scores(DType::kF64, {samples.num_rows(), weights_->weight.cols()});
  Eigen::Map<Matrix> out(scores.as<double>(), samples.num_rows(), weights_->weight.cols());
  out = x * weights_->weight;
  out.rowwise() += weights_->intercept;
  return scores;
}

double LinearProbe::accuracy(const FeatureTable& samples) const {
  const Tensor all = scores(samples);
  const std::int64_t classes = all.shape()[1];
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < samples.num_rows(); ++i) {
    const double* row = all.as<double>() + i * classes;
    if (std::max_element(row, row + classes) - row == samples.labels()[static_cast<std::size_t>(i)]) ++right;
  }
  return samples.num_rows() == 0 ? 0 : static_cast<double>(right) / static_cast<double>(samples.num_rows());
}

double few_shot_accuracy(const FeatureTable& train, const FeatureTable& test, std::int64_t num_classes,
                         const FewShotOptions& options) {
  const std::vector<std::int64_t> picked =
      pick_few_shots(train.labels(), num_classes, options.shots, options.seed);
  return LinearProbe(train.rows(picked), num_classes, options.ridge).accuracy(test);
}

}  // namespace flex
