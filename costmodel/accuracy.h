#pragma once

#include <optional>
#include <span>

namespace flex {

/// The middle value; of an even number of values the mean of the two in the middle.
/// @throws InputError for no values.
[[nodiscard]] double median(std::span<const double> values);

/// Median of the distances from the median: a spread that single outliers do not move.
/// @throws InputError for no values.
[[nodiscard]] double median_absolute_deviation(std::span<const double> values);

/// |predicted - measured| / measured. @throws InputError unless `measured` is above 0.
[[nodiscard]] double relative_error(double predicted, double measured);

/// One of several alternatives, in the same unit.
struct Alternative {
  double predicted = 0;
  double measured = 0;
  double spread = 0;  ///< of the measured value over its repeats
};

/// How alike prediction and measurement order the alternatives: 1 in the same order, -1 in the reverse. Two
/// of them whose measured values lie within twice the larger of their spreads are measured as equal, and the
/// same distance makes them predicted as equal: a difference that the measurement cannot see is none. Nothing
/// if all are equal in either.
/// @source Kendall's tau-b, (concordant - discordant) / sqrt((pairs - ties of one) (pairs - ties of the
/// other))
[[nodiscard]] std::optional<double> kendall_tau_b(std::span<const Alternative> alternatives);

/// What it costs to take the alternative of the smallest prediction (the first of several), as a fraction of
/// the smallest measured value. @throws InputError for no alternatives, or a measured value that is not above
/// 0.
[[nodiscard]] double regret(std::span<const Alternative> alternatives);

}  // namespace flex
