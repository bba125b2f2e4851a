#include "tuner/duration_belief.h"

#include <Eigen/Cholesky>
#include <cmath>

#include "base/philox.h"
#include "tuner/pass_simulator.h"

namespace flex {
namespace {

/// In standard deviations: what is further off shows that the belief was too narrow.
constexpr double kLargestSurprise = 3;

}  // namespace

DurationBelief::DurationBelief(const SearchProblem& problem, const CostModel& costs,
                               const ModelErrors& errors) {
  const ModelNeighbourhood neighbourhood(problem.cluster, costs, errors);
  mean_.resize(problem.num_candidates());
  Eigen::MatrixXd sensitivity(mean_.size(), neighbourhood.num_parameters());  // to one sigma
  Eigen::VectorXd own_variance(mean_.size());
  PassSimulator simulator(problem.workload, problem.cluster);
  Eigen::Index candidate = 0;
  for (const Plan& plan : problem.plans) {
    for (const Pass pass : passes_of(problem.passes)) {
      simulator.prepare(plan, pass);
      const double duration_us = simulator.duration_us(costs);
      const ModelNeighbourhood::Slopes slopes = neighbourhood.slopes(simulator, duration_us);
      mean_[candidate] = std::log(duration_us);
      sensitivity.row(candidate) = slopes.per_sigma;
      own_variance[candidate] = slopes.own_variance;
      ++candidate;
    }
  }
  covariance_ = sensitivity * sensitivity.transpose();
  covariance_.diagonal() += own_variance;
}

void DurationBelief::observe(std::size_t candidate, double duration_us, double relative_spread) {
  const auto i = static_cast<Eigen::Index>(candidate);
  const double noise = relative_spread * relative_spread;
  const double surprise = std::log(duration_us) - mean_[i];
  const double expected = kLargestSurprise * kLargestSurprise * (covariance_(i, i) + noise);
  if (surprise * surprise > expected) covariance_ *= surprise * surprise / expected;
  const Eigen::VectorXd covariances = covariance_.col(i);
  const double variance = covariances[i] + noise;
  mean_ += covariances * (surprise / variance);
  covariance_ -= covariances * covariances.transpose() / variance;
}

double DurationBelief::mean_us(std::size_t candidate) const {
  return std::exp(mean_[static_cast<Eigen::Index>(candidate)]);
}

Eigen::MatrixXd DurationBelief::draw_us(Eigen::Index num_draws, std::uint64_t seed) const {
  // Pivoted, since what was observed without spread has no variance left.
  const Eigen::LDLT<Eigen::MatrixXd> factored(covariance_);
  const Eigen::VectorXd roots = factored.vectorD().cwiseMax(0).cwiseSqrt();
  const Eigen::MatrixXd lower = factored.matrixL();
  const Eigen::MatrixXd root = factored.transpositionsP().transpose() * (lower * roots.asDiagonal());
  PhiloxStream random(seed);
  Eigen::MatrixXd draws(mean_.size(), num_draws);
  for (double& value : draws.reshaped()) value = random.normal();
  return ((root * draws).colwise() + mean_).array().exp();
}

}  // namespace flex
