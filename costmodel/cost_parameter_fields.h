#pragma once

#include <span>
#include <string>

#include "base/json_object.h"
#include "costmodel/cost_parameters.h"

/// Private to the JSON format and to calibration: the parameters by their keys.
namespace flex {

/// A parameter that is one number.
struct CostParameterField {
  const char* section;
  const char* key;
  double& (*of)(CostParameters& parameters);
  JsonRange range;
  bool may_be_absent = false;  ///< and is infinite then

  /// e.g. `compute.launch_us`.
  [[nodiscard]] std::string path() const { return std::string(section) + "." + key; }
  [[nodiscard]] double get(CostParameters parameters) const { return of(parameters); }
};

/// In the order of the format.
[[nodiscard]] std::span<const CostParameterField> cost_parameter_fields();

/// Where CostParameters::pass_relative_error of plans with `algorithm` stands: `pass_relative_error.linear`.
[[nodiscard]] std::string pass_error_key(AllToAllAlgorithm algorithm);

/// Largest efficiency that is read.
inline constexpr double kMaxEfficiency = 100;

}  // namespace flex
