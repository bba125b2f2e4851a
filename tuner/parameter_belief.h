#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>

/// Private to the online policy.
namespace flex {

/// A sum of what is believed in: `slopes` times the parameters, and a few residuals times their factors.
struct BeliefForm {
  Eigen::VectorXd slopes;  ///< of every parameter
  struct Residual {
    std::int32_t slot = -1;
    double factor = 0;
  };
  std::array<Residual, 4> residuals{};  ///< the first `num_residuals`
  std::int32_t num_residuals = 0;
  double own_variance = 0;  ///< of what has no slot: independent of everything else

  void clear() {
    slopes.setZero();
    num_residuals = 0;
    own_variance = 0;
  }
};

/// What is known of the logarithms of a machine's cost parameters, in sigmas of the model's errors, and of
/// residuals, which the parameters do not explain: one normal distribution over all of them together. Begins
/// with independent parameters of mean 0 and variance 1.
///
/// Memory is taken at construction: nothing here allocates later.
/// @source Kalman filter of a random walk, with scalar observations
class ParameterBelief {
 public:
  ParameterBelief(Eigen::Index num_parameters, Eigen::Index max_residuals);

  [[nodiscard]] Eigen::Index num_parameters() const { return num_parameters_; }
  [[nodiscard]] auto parameters() const { return mean_.head(num_parameters_); }
  [[nodiscard]] double residual(std::int32_t slot) const { return mean_[place_of(slot)]; }

  /// Slots that were begun; at most the constructor's.
  [[nodiscard]] Eigen::Index num_residuals() const { return size_ - num_parameters_; }
  [[nodiscard]] bool is_full() const { return size_ == mean_.size(); }
  /// A new slot; there must be one. Its mean is 0.
  [[nodiscard]] std::int32_t add_residual(double variance);
  /// Forgets what `slot` stood for, and begins it anew.
  void reset_residual(std::int32_t slot, double variance);
  /// `slot` may have moved by about this much since it was learned.
  void loosen_residual(std::int32_t slot, double variance);

  [[nodiscard]] double mean(const BeliefForm& form) const;
  [[nodiscard]] double variance(const BeliefForm& form) const;

  /// `form` was found to be `surprise` above its mean, with this variance of the observation.
  void observe(const BeliefForm& form, double surprise, double noise_variance);

  /// Parameters and residuals may have walked since: variances added to each.
  void age(double parameter_variance, double residual_variance);
  /// Something has changed: each parameter may have moved by its own variance.
  void widen(const Eigen::VectorXd& variances);

 private:
  [[nodiscard]] Eigen::Index place_of(std::int32_t slot) const { return num_parameters_ + slot; }

  Eigen::Index num_parameters_;
  Eigen::Index size_;  // of what is in use, in all that follows
  Eigen::VectorXd mean_;
  Eigen::MatrixXd covariance_;
  Eigen::VectorXd column_;
};

}  // namespace flex
