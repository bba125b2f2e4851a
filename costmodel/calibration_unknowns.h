#pragma once

#include <Eigen/Core>
#include <cstdint>

#include "costmodel/cost_parameters.h"

/// Private to calibration: parameters as what durations are linear in.
namespace flex {

/// What durations are linear in: times, and inverses of rates.
enum Unknown : std::uint8_t {
  kLaunch,
  kMatrix,      // 1 / matrix_efficiency
  kMatrixRows,  // half_efficiency_rows / matrix_efficiency
  kMemory,
  kStrided,
  kIntraCollective,
  kIntraMessage,
  kIntraBytes,
  kInterCollective,
  kInterMessage,
  kInterBytes,
  kInterContention,  // kInterBytes / contention_peers^exponent
  kHost,
  kNumUnknowns,
};

/// The parameter's key in the JSON format.
[[nodiscard]] const char* key_of(Unknown unknown);

[[nodiscard]] Eigen::VectorXd to_unknowns(const CostParameters& parameters);

/// What is no unknown is start's; parameters of kinds are left out. Efficiencies are at most kMaxEfficiency.
[[nodiscard]] CostParameters to_parameters(const Eigen::VectorXd& unknowns, const CostParameters& start);

}  // namespace flex
