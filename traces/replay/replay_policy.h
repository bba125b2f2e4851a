#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "traces/replay/scenario_trace.h"
#include "tuner/policy.h"

namespace flex {

/// A policy of a replay: one that a run can have, or one that only a trace can.
struct ReplayPolicy {
  enum class Kind : std::uint8_t {
    kPolicy,      ///< `policy`
    kBestStatic,  ///< the static pair that is fastest over the whole trace, in hindsight
    kRecorded,    ///< the plans that the recorded run chose
  };
  Kind kind = Kind::kPolicy;
  PolicySpec policy{};

  [[nodiscard]] bool is_oracle() const { return kind == Kind::kPolicy && policy.kind == PolicyKind::kOracle; }
  /// Has to know what every plan takes at every load.
  [[nodiscard]] bool needs_hindsight() const { return kind == Kind::kBestStatic || is_oracle(); }
  friend bool operator==(const ReplayPolicy&, const ReplayPolicy&) = default;
};

/// What others are compared with: the default plan in both passes.
inline constexpr ReplayPolicy kDefaultPolicy{.policy = {.kind = PolicyKind::kStatic}};

/// As parse_policy(), and `best-static` and `recorded`. @throws InputError for anything else.
[[nodiscard]] ReplayPolicy parse_replay_policy(std::string_view text);
/// Read back by parse_replay_policy().
[[nodiscard]] std::string to_string(const ReplayPolicy& policy);

/// `static` of the default plan, best-static, dictionary, model, online, oracle, and recorded if all
/// iterations say which plans ran.
[[nodiscard]] std::vector<ReplayPolicy> all_replay_policies(const IterationTrace& trace);

/// Answers with the plans of a recorded run, one iteration after the other; with the default plan where they
/// are not legal in the scenario, or not known.
class RecordedPolicy final : public PlanPolicy {
 public:
  /// Both must live as long.
  RecordedPolicy(std::span<const ReplayIteration> iterations, const Cluster& cluster)
      : iterations_(iterations), cluster_(cluster) {}

  /// @throws std::out_of_range after the last iteration.
  [[nodiscard]] PlanPair choose(std::int64_t layer, const LayerLoad& load) override;
  void observe(std::int64_t, const LayerLoad&, const PlanPair&, const PassDurations&) override {}
  [[nodiscard]] std::uint64_t state_hash() const override { return next_; }

 private:
  std::span<const ReplayIteration> iterations_;
  const Cluster& cluster_;
  std::size_t next_ = 0;
};

}  // namespace flex
