#pragma once

#include <algorithm>

/// Private to the online policy.
namespace flex {

/// Tells a lasting change from noise and from single outliers: sums of how many standard deviations
/// observations were above, and below, what was expected of them.
/// @source Page, "Continuous Inspection Schemes", Biometrika 41 (1954): CUSUM
class DriftDetector {
 public:
  /// `surprise`: in standard deviations. True if the changes add up; the sums then begin anew.
  bool observe(double surprise) {
    const double bounded = std::clamp(surprise, -kLargest, kLargest);
    above_ = std::max(above_ + bounded - kAllowance, 0.0);
    below_ = std::max(below_ - bounded - kAllowance, 0.0);
    if (std::max(above_, below_) <= kLimit) return false;
    above_ = below_ = 0;
    return true;
  }

 private:
  /// A change of 1.5 standard deviations is told fastest.
  static constexpr double kAllowance = 0.75;
  /// One false alarm in about exp(2 * 0.75 * 8) = 160,000 observations of normal noise.
  static constexpr double kLimit = 8;
  /// So that one or two outliers are no alarm.
  static constexpr double kLargest = 4;

  double above_ = 0;
  double below_ = 0;
};

}  // namespace flex
