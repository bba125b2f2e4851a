#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "costmodel/plan.h"
#include "costmodel/workload.h"

namespace flex {

/// What a message is for; traffic is counted apart for each.
enum class Traffic : std::uint8_t {
  kDispatch,       ///< tokens to experts, linear or the phase between nodes
  kDispatchIntra,  ///< tokens to experts, 2DH's phase inside the node
  kCombine,        ///< expert outputs back, linear or the phase between nodes
  kCombineIntra,   ///< expert outputs back, 2DH's phase inside the node
  kWeights,        ///< gathers of expert weights
  kGradients,      ///< reduce-scatters of expert gradients
  kGate,           ///< gate losses and gradients of replicated parameters
  kControl,        ///< agreement
  kOther,
};
inline constexpr int kNumTraffic = 9;
[[nodiscard]] std::string_view name(Traffic traffic);

/// Payload bytes of one rank by purpose, the own chunk included.
using TrafficBytes = std::array<std::int64_t, kNumTraffic>;

/// What one pass of the layer under `plan` must move, agreement (kControl) left out: each All-to-All E*C*M*r
/// elements with C rounded up (2DH: in each of its two phases), weights and gradients (2*H*M + H)/r elements
/// and the covered slices of fc2_bias per expert where weight groups have more than one rank, all experts at
/// r = 0. One rank alone moves nothing. Independent of build_schedule(), so that the two check each other.
/// @source numerics.md "Parallelism"
[[nodiscard]] TrafficBytes expected_traffic(const Workload& workload, const Plan& plan);

}  // namespace flex
