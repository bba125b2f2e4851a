#pragma once

#include <Eigen/Core>
#include <vector>

#include "costmodel/cost_model.h"
#include "tuner/model_neighbourhood.h"
#include "tuner/search.h"

/// Private to model-guided search.
namespace flex {

/// What is known of the logarithms of the durations (in microseconds) of a problem's candidates: a normal
/// distribution over all of them together. Candidate `plan * num_passes + pass`, by the places of the plan
/// among the problem's and of the pass among its passes.
class DurationBelief {
 public:
  /// What a model says, and how its errors go together: a parameter that is off moves all plans that it
  /// matters for.
  DurationBelief(const SearchProblem& problem, const CostModel& costs, const ModelErrors& errors);

  /// Takes a duration into account that was observed with a relative spread. One that is more than three
  /// standard deviations off widens the belief in all candidates first: the model is worse than it was taken
  /// for. @source conditioning of a normal distribution (Kalman's update of one scalar observation)
  void observe(std::size_t candidate, double duration_us, double relative_spread);

  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(mean_.size()); }
  [[nodiscard]] double mean_us(std::size_t candidate) const;
  /// Durations in microseconds, (size(), num_draws): each column one machine that the belief allows. Equal
  /// seeds give equal bits.
  [[nodiscard]] Eigen::MatrixXd draw_us(Eigen::Index num_draws, std::uint64_t seed) const;

 private:
  Eigen::VectorXd mean_;
  Eigen::MatrixXd covariance_;
};

}  // namespace flex
