#include "tuner/duration_belief.h"

#include <Eigen/Cholesky>
#include <cmath>

#include "base/philox.h"
#include "costmodel/parameter_scaling.h"
#include "tuner/pass_simulator.h"

namespace flex {
namespace {

/// In standard deviations: what is further off shows that the belief was too narrow.
constexpr double kLargestSurprise = 3;

/// The model with each parameter in turn one sigma larger and smaller.
std::vector<CostModel> neighbours_of(const CostModel& costs, const Cluster& cluster, double sigma) {
  std::vector<CostModel> models;
  std::vector<double> factors(num_scalable(costs.parameters()), 1.0);
  for (double& factor : factors) {
    for (const double sign : {1.0, -1.0}) {
      factor = std::exp(sign * sigma);
      const CostParameters changed = scaled(costs.parameters(), factors);
      models.emplace_back(cluster, changed, costs.table());
    }
    factor = 1;
  }
  return models;
}

}  // namespace

DurationBelief::DurationBelief(const SearchProblem& problem, const CostModel& costs,
                               const ModelErrors& errors) {
  const std::vector<CostModel> neighbours = neighbours_of(costs, problem.cluster, errors.parameter);
  const auto num_parameters = static_cast<Eigen::Index>(neighbours.size() / 2);
  mean_.resize(problem.num_candidates());
  Eigen::MatrixXd sensitivity(mean_.size(), num_parameters);  // to one sigma
  Eigen::VectorXd own_variance(mean_.size());
  PassSimulator simulator(problem.workload, problem.cluster);
  Eigen::Index candidate = 0;
  for (const Plan& plan : problem.plans) {
    for (const Pass pass : passes_of(problem.passes)) {
      simulator.prepare(plan, pass);
      mean_[candidate] = std::log(simulator.duration_us(costs));
      own_variance[candidate] = errors.candidate * errors.candidate;
      for (Eigen::Index i = 0; i < num_parameters; ++i) {
        const auto at = static_cast<std::size_t>(2 * i);
        const double up = std::log(simulator.duration_us(neighbours[at])) - mean_[candidate];
        const double down = std::log(simulator.duration_us(neighbours[at + 1])) - mean_[candidate];
        sensitivity(candidate, i) = (up - down) / 2;
        const double bend = (up + down) / 2;
        own_variance[candidate] += bend * bend;
      }
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
