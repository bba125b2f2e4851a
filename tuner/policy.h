#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "costmodel/plan_pair.h"
#include "tuner/plan_policy.h"
#include "tuner/policy_context.h"

namespace flex {

enum class PolicyKind : std::uint8_t {
  kStatic,      ///< one pair of plans
  kDictionary,  ///< the paper's: a ternary search for each layer and floor(C / 128), an evaluation an
                ///< iteration
  kModel,       ///< what the cost model says
  kOnline,      ///< begins with the model, and learns: OnlinePolicy
  kOracle,      ///< what the truth says, where it is known
};
inline constexpr PolicyKind kPolicyKinds[] = {PolicyKind::kStatic, PolicyKind::kDictionary,
                                              PolicyKind::kModel, PolicyKind::kOnline, PolicyKind::kOracle};
/// `static`, `dictionary`, `model`, `online`, `oracle`.
[[nodiscard]] std::string_view name(PolicyKind kind);

/// Which policy, as a user names it.
struct PolicySpec {
  PolicyKind kind = PolicyKind::kOnline;
  PlanPair plans = {};  ///< of kStatic

  friend bool operator==(const PolicySpec&, const PolicySpec&) = default;
};

/// `static:r1 d2 2dh`, `static:r1 d2 2dh/r1 d4 linear` (forward and backward), `dictionary`, `model`,
/// `online` or `oracle`. @throws InputError for anything else, naming the policies and the nearest one.
[[nodiscard]] PolicySpec parse_policy(std::string_view text);
/// Read back by parse_policy().
[[nodiscard]] std::string to_string(const PolicySpec& spec);

/// A policy that has not run yet. Whatever the kind, its plans are legal at the loads that it is asked for,
/// and may run there where any may.
/// @throws InputError if the context lacks what the kind needs.
[[nodiscard]] std::unique_ptr<PlanPolicy> make_policy(const PolicySpec& spec, PolicyContext context);

}  // namespace flex
