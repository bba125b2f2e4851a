#include "tuner/model_neighbourhood.h"

#include <cmath>

#include "costmodel/parameter_scaling.h"

namespace flex {
namespace {

CostModel moved(const Cluster& cluster, const CostModel& costs, double sigma,
                const Eigen::VectorXd& offsets) {
  if (offsets.size() == 0) return costs;
  const Eigen::VectorXd factors = (sigma * offsets).array().exp();
  return {cluster, scaled(costs.parameters(), {factors.data(), static_cast<std::size_t>(factors.size())}),
          costs.table()};
}

}  // namespace

ModelNeighbourhood::ModelNeighbourhood(const Cluster& cluster, const CostModel& costs,
                                       const ModelErrors& errors, const Eigen::VectorXd& offsets)
    : errors_(errors), centre_(moved(cluster, costs, errors.parameter, offsets)) {
  std::vector<double> factors(num_scalable(centre_.parameters()), 1.0);
  for (double& factor : factors) {
    for (const double sign : {1.0, -1.0}) {
      factor = std::exp(sign * errors.parameter);
      neighbours_.emplace_back(cluster, scaled(centre_.parameters(), factors), centre_.table());
    }
    factor = 1;
  }
}

ModelNeighbourhood::Slopes ModelNeighbourhood::slopes(PassSimulator& simulator, double duration_us) const {
  Slopes result{.per_sigma = Eigen::RowVectorXd(num_parameters()),
                .own_variance = errors_.candidate * errors_.candidate};
  for (Eigen::Index i = 0; i < num_parameters(); ++i) {
    const auto at = static_cast<std::size_t>(2 * i);
    const double up = std::log(simulator.duration_us(neighbours_[at]) / duration_us);
    const double down = std::log(simulator.duration_us(neighbours_[at + 1]) / duration_us);
    result.per_sigma[i] = (up - down) / 2;
    const double bend = (up + down) / 2;
    result.own_variance += bend * bend;
  }
  return result;
}

}  // namespace flex
