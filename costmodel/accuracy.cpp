#include "costmodel/accuracy.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/require.h"

namespace flex {
namespace {

// -1, 0 or 1: how b compares with a, apart by `tolerance` or less being equal.
int compare(double a, double b, double tolerance) {
  if (std::abs(a - b) <= tolerance) return 0;
  return a < b ? 1 : -1;
}

}  // namespace

double median(std::span<const double> values) {
  require(!values.empty(), "there is no median of no values");
  std::vector<double> sorted(values.begin(), values.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::ranges::nth_element(sorted, middle);
  if (sorted.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(sorted.begin(), middle)) / 2;
}

double median_absolute_deviation(std::span<const double> values) {
  const double center = median(values);
  std::vector<double> distances;
  distances.reserve(values.size());
  for (const double value : values) distances.push_back(std::abs(value - center));
  return median(distances);
}

double relative_error(double predicted, double measured) {
  require(measured > 0, "a measured value of {}; a relative error needs one above 0", measured);
  return std::abs(predicted - measured) / measured;
}

std::optional<double> kendall_tau_b(std::span<const Alternative> alternatives) {
  double score = 0;  // concordant - discordant
  double measured_apart = 0;
  double predicted_apart = 0;
  for (std::size_t i = 0; i < alternatives.size(); ++i) {
    for (std::size_t j = i + 1; j < alternatives.size(); ++j) {
      const Alternative& a = alternatives[i];
      const Alternative& b = alternatives[j];
      const double tolerance = 2 * std::max(a.spread, b.spread);
      const int measured = compare(a.measured, b.measured, tolerance);
      const int predicted = compare(a.predicted, b.predicted, tolerance);
      score += measured * predicted;
      measured_apart += std::abs(measured);
      predicted_apart += std::abs(predicted);
    }
  }
  if (measured_apart == 0 || predicted_apart == 0) return std::nullopt;
  return score / std::sqrt(measured_apart * predicted_apart);
}

double regret(std::span<const Alternative> alternatives) {
  require(!alternatives.empty(), "there is no choice among no alternatives");
  const Alternative& chosen = *std::ranges::min_element(alternatives, {}, &Alternative::predicted);
  const double best = std::ranges::min_element(alternatives, {}, &Alternative::measured)->measured;
  require(best > 0, "a measured value of {}; a regret needs values above 0", best);
  return chosen.measured / best - 1;
}

}  // namespace flex
