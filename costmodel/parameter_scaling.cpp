#include "costmodel/parameter_scaling.h"

#include <algorithm>
#include <cmath>

#include "base/require.h"
#include "costmodel/cost_parameter_fields.h"

namespace flex {

std::size_t num_scalable(const CostParameters& parameters) {
  const auto kinds =
      std::ranges::count_if(parameters.kinds, [](const auto& kind) { return kind.has_value(); });
  return cost_parameter_fields().size() + 2 * static_cast<std::size_t>(kinds);
}

CostParameters scaled(const CostParameters& parameters, std::span<const double> factors) {
  require(factors.size() == num_scalable(parameters), "{} factors for {} parameters", factors.size(),
          num_scalable(parameters));
  CostParameters result = parameters;
  auto factor = factors.begin();
  for (const CostParameterField& field : cost_parameter_fields()) {
    double& value = field.of(result);
    const double changed = value * *factor++;
    if (std::isfinite(value)) value = std::clamp(changed, field.range.min, field.range.max);
  }
  for (std::optional<KindParameters>& kind : result.kinds) {
    if (!kind) continue;
    kind->fixed_us *= *factor++;
    kind->time_factor *= *factor++;
  }
  return result;
}

}  // namespace flex
