#include "tuner/parameter_belief.h"

namespace flex {

ParameterBelief::ParameterBelief(Eigen::Index num_parameters, Eigen::Index max_residuals)
    : num_parameters_(num_parameters),
      size_(num_parameters),
      mean_(Eigen::VectorXd::Zero(num_parameters + max_residuals)),
      covariance_(Eigen::MatrixXd::Zero(mean_.size(), mean_.size())),
      column_(Eigen::VectorXd::Zero(mean_.size())) {
  covariance_.diagonal().head(num_parameters).setOnes();
}

std::int32_t ParameterBelief::add_residual(double variance) {
  const auto slot = static_cast<std::int32_t>(num_residuals());
  ++size_;
  reset_residual(slot, variance);
  return slot;
}

void ParameterBelief::reset_residual(std::int32_t slot, double variance) {
  const Eigen::Index place = place_of(slot);
  mean_[place] = 0;
  covariance_.row(place).setZero();
  covariance_.col(place).setZero();
  covariance_(place, place) = variance;
}

void ParameterBelief::loosen_residual(std::int32_t slot, double variance) {
  covariance_(place_of(slot), place_of(slot)) += variance;
}

double ParameterBelief::mean(const BeliefForm& form) const {
  double sum = form.slopes.dot(parameters());
  for (int i = 0; i < form.num_residuals; ++i) {
    sum += form.residuals[i].factor * residual(form.residuals[i].slot);
  }
  return sum;
}

double ParameterBelief::variance(const BeliefForm& form) const {
  double sum = form.own_variance;
  for (Eigen::Index i = 0; i < num_parameters_; ++i) {
    if (form.slopes[i] != 0) {
      sum += form.slopes[i] * covariance_.col(i).head(num_parameters_).dot(form.slopes);
    }
  }
  for (int i = 0; i < form.num_residuals; ++i) {
    const auto& [slot, factor] = form.residuals[i];
    const auto column = covariance_.col(place_of(slot));
    sum += 2 * factor * column.head(num_parameters_).dot(form.slopes);
    for (int j = 0; j < form.num_residuals; ++j) {
      sum += factor * form.residuals[j].factor * column[place_of(form.residuals[j].slot)];
    }
  }
  return sum > 0 ? sum : 0;  // rounding
}

void ParameterBelief::observe(const BeliefForm& form, double surprise, double noise_variance) {
  const double expected = variance(form) + noise_variance;
  auto column = column_.head(size_);
  column.noalias() = covariance_.topLeftCorner(size_, num_parameters_) * form.slopes;
  for (int i = 0; i < form.num_residuals; ++i) {
    column += form.residuals[i].factor * covariance_.col(place_of(form.residuals[i].slot)).head(size_);
  }
  mean_.head(size_) += column * (surprise / expected);
  for (Eigen::Index j = 0; j < size_; ++j) {
    covariance_.col(j).head(size_) -= column * (column[j] / expected);
  }
}

void ParameterBelief::age(double parameter_variance, double residual_variance) {
  covariance_.diagonal().head(num_parameters_).array() += parameter_variance;
  covariance_.diagonal().segment(num_parameters_, num_residuals()).array() += residual_variance;
}

void ParameterBelief::widen(const Eigen::VectorXd& variances) {
  covariance_.diagonal().head(num_parameters_) += variances;
}

}  // namespace flex
