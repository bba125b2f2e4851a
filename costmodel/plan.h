#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace flex {

enum class AllToAllAlgorithm : std::uint8_t {
  kLinear,          ///< one phase, every rank with every other
  kHierarchical2d,  ///< strided copies, a phase inside the node, a phase between nodes
};
inline constexpr int kNumAllToAllAlgorithms = static_cast<int>(AllToAllAlgorithm::kHierarchical2d) + 1;
/// `linear` or `2dh`.
[[nodiscard]] std::string_view name(AllToAllAlgorithm algorithm);

/// Over which rows the experts compute.
enum class ExpertKernel : std::uint8_t {
  kPadded,   ///< every expert over all slots of the capacity
  kCounted,  ///< over the slots that the counts reach; needs the counts on the host, so dropless routing
};
/// `padded` or `counted`.
[[nodiscard]] std::string_view name(ExpertKernel kernel);

/// How one pass of one layer runs. A plain value: ordered, hashable, printed as `r2 d4 2dh` and parsed back.
/// Forward and backward each have a plan; the backward pass uses the forward plan's r.
struct Plan {
  /// r: 0 moves weights instead of tokens (data parallel); otherwise the tokens of an expert go to r groups
  /// of ranks, each of which holds 1/r of its hidden columns.
  std::int32_t parallel_degree = 1;
  std::int32_t pipeline_degree = 1;  ///< d: parts that dispatch, experts and combine are split into
  AllToAllAlgorithm all_to_all = AllToAllAlgorithm::kLinear;
  ExpertKernel expert_kernel = ExpertKernel::kPadded;

  friend constexpr auto operator<=>(const Plan&, const Plan&) = default;
};

/// Always legal, always a candidate: r1 d1 linear.
inline constexpr Plan kDefaultPlan{};

/// `r2 d4 2dh`, and `r2 d4 2dh counted` for experts that are not padded.
[[nodiscard]] std::string to_string(const Plan& plan);

/// Inverse of to_string(). The parts may come in any order; those that are left out are the default's, but
/// one must be there. @throws InputError for anything else, saying what a plan looks like.
[[nodiscard]] Plan parse_plan(std::string_view text);

/// Equal on every rank, machine and run: what ranks compare to see that they decided alike.
[[nodiscard]] std::uint64_t stable_hash(const Plan& plan);

}  // namespace flex

template <>
struct std::hash<flex::Plan> {
  std::size_t operator()(const flex::Plan& plan) const noexcept {
    return static_cast<std::size_t>(flex::stable_hash(plan));
  }
};
