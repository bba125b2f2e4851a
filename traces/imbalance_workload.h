#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace flex {

/// Named ways in which routing can be uneven. Each is defined by fractions of the experts, of the source
/// ranks and of the steps, so that it means the same at any number of them; docs/trace-format.md has the
/// figures.
enum class ImbalanceWorkload : std::uint8_t {
  kBalanced,         ///< W0: every expert gets the same
  kHotExperts,       ///< W1: an eighth of the experts, at random places, gets half of the choices
  kHotRank,          ///< W2: the same, of neighbouring experts: those of one rank, if there are 8
  kSpreadHot,        ///< W3: the same, every eighth expert: each rank has its share
  kRaggedSources,    ///< W4: source ranks have from a quarter to all of T tokens
  kZeroLoad,         ///< W5: a quarter of the experts and of the source ranks, and each eighth step, get none
  kRotatingHotspot,  ///< W6: W2's neighbours, which move on by themselves and come round in 8 steps
  kBurst,            ///< W7: W0, but in one of 16 steps a sixteenth of the experts gets three quarters
  kDrift,  ///< as in training: the needed capacity rises to 4.38 times the balanced one, then falls again
};
inline constexpr int kNumImbalanceWorkloads = static_cast<int>(ImbalanceWorkload::kDrift) + 1;

/// `W0` to `W7`, `drift`.
[[nodiscard]] std::string_view name(ImbalanceWorkload imbalance);
/// One line for people.
[[nodiscard]] std::string_view description(ImbalanceWorkload imbalance);
/// Inverse of name(); capital letters or not.
[[nodiscard]] std::optional<ImbalanceWorkload> parse_imbalance_workload(std::string_view text);

/// The largest factor by which needed capacity moved within one training run.
/// @source Hwang et al., "Tutel: Adaptive Mixture-of-Experts at Scale", MLSys 2023 (4.38x).
inline constexpr double kPublishedCapacityDrift = 4.38;

/// Where in a run one pass of one layer is.
struct ImbalancePlace {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::int64_t num_steps = 1;
  std::int64_t layer = 0;
};

/// What of the choices each expert gets, as weights: integers, so that they are the same on every machine.
/// None has more than 1 / top_k of their sum, since a token takes an expert at most once.
/// @throws InputError unless 1 <= top_k <= num_experts.
[[nodiscard]] std::vector<std::int64_t> expert_weights(ImbalanceWorkload imbalance,
                                                       const ImbalancePlace& place, std::int64_t num_experts,
                                                       std::int64_t top_k);

/// Tokens of source rank `source` of `world`, where a full batch has `num_tokens`.
[[nodiscard]] std::int64_t source_tokens(ImbalanceWorkload imbalance, const ImbalancePlace& place,
                                         std::int64_t source, std::int64_t world, std::int64_t num_tokens);

}  // namespace flex
