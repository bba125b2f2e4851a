#pragma once

#include <array>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "costmodel/calibration.h"
#include "costmodel/operation_roofline.h"
#include "costmodel/operation_work.h"

/// Private to calibration: parameters that all kinds of operations share, and those of one kind.
namespace flex {

/// What makes two samples the same measurement.
using Sizes = std::tuple<OperationKind, DType, int, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                         std::int64_t, std::int64_t, double, double>;
[[nodiscard]] Sizes sizes_of(const OperationWork& work);

/// A sample as it is fitted.
struct FitPoint {
  OperationWork work;
  double measured_us = 0;
};

/// Predicted / measured - 1.
[[nodiscard]] double relative_residual(double predicted_us, const FitPoint& point);

/// Parameters that all kinds share, and which of their keys no point depends on.
struct SharedFit {
  CostParameters parameters;
  std::vector<std::string> kept;
};

/// Least squares of relative residuals, weighted down where they are outliers. Durations are, piece by piece,
/// linear in the unknowns (times, and inverses of rates); which piece holds, such as whether a product is
/// bound by arithmetic or by memory, depends on the unknowns themselves, so linear fits are repeated, from
/// several starts.
[[nodiscard]] SharedFit fit_shared(const Cluster& cluster, std::span<const FitPoint> points,
                                   const CostParameters& start, double huber_threshold);

/// Of one kind: fixed_us and time_factor over the formula's variable_us().
[[nodiscard]] KindParameters fit_kind(const OperationRoofline& roofline, std::span<const FitPoint> points,
                                      double huber_threshold);

}  // namespace flex
