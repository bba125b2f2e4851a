#pragma once

#include <Eigen/Core>
#include <vector>

#include "costmodel/cluster.h"
#include "costmodel/cost_model.h"
#include "tuner/pass_simulator.h"

/// Private to what learns from a model.
namespace flex {

/// How far a model may be off, each as the sigma of a logarithm.
struct ModelErrors {
  double parameter = 0.15;  ///< of every cost parameter, independently
  double candidate = 0.02;  ///< of each plan and pass by itself: what no parameter explains
};

/// A model among those that it may be mistaken for: itself, and with each parameter in turn one sigma larger
/// and smaller.
class ModelNeighbourhood {
 public:
  /// Around `costs` with each parameter's logarithm moved by `offsets` (in sigmas, num_parameters() of them;
  /// empty: not at all).
  ModelNeighbourhood(const Cluster& cluster, const CostModel& costs, const ModelErrors& errors,
                     const Eigen::VectorXd& offsets = {});

  [[nodiscard]] Eigen::Index num_parameters() const {
    return static_cast<Eigen::Index>(neighbours_.size() / 2);
  }
  [[nodiscard]] const CostModel& centre() const { return centre_; }

  /// What the logarithm of the duration of a pass depends on.
  struct Slopes {
    Eigen::RowVectorXd per_sigma;  ///< differences over one sigma in either direction
    /// The candidate's own: where the two directions disagree, as where another stream becomes the longer
    /// one, half the disagreement is error of the candidate itself.
    double own_variance = 0;
  };
  /// Of what `simulator` has prepared, which takes `duration_us` with the centre.
  [[nodiscard]] Slopes slopes(PassSimulator& simulator, double duration_us) const;

 private:
  ModelErrors errors_;
  CostModel centre_;
  std::vector<CostModel> neighbours_;  // for each parameter: larger, smaller
};

}  // namespace flex
