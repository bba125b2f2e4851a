#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "traces/replay/load_simulator.h"
#include "tuner/fastest_pair.h"

namespace flex {

/// What passes of a scenario take: simulated when first asked for, and remembered. Values are a function of
/// their arguments, so several threads may ask at once, each with a simulator of its own, and get equal ones.
class OutcomeTable {
 public:
  /// `loads` must live as long.
  explicit OutcomeTable(std::span<const ReplayLoad> loads) : loads_(loads) {}

  [[nodiscard]] const ReplayLoad& load(std::int32_t index) const {
    return loads_[static_cast<std::size_t>(index)];
  }
  /// @throws InputError for a plan that cannot run.
  [[nodiscard]] PassOutcome outcome(std::int32_t load, const Plan& plan, Pass pass, LoadSimulator& simulator);

 private:
  struct Key {
    std::int32_t load;
    Pass pass;
    Plan plan;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const noexcept;
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<Key, PassOutcome, Hash> outcomes;
  };
  static constexpr std::size_t kNumShards = 64;

  std::span<const ReplayLoad> loads_;
  std::array<Shard, kNumShards> shards_;
};

/// Durations of every plan that may run, at every load: what hindsight needs.
class DurationTable {
 public:
  explicit DurationTable(std::size_t num_loads) : timed_(num_loads) {}

  /// Times `plans` in `passes`. Different loads may be filled at once.
  void fill(std::int32_t index, const ReplayLoad& load, std::span<const Plan> plans, Passes passes,
            LoadSimulator& simulator);
  [[nodiscard]] std::span<const TimedPlan> timed(std::int32_t load) const {
    return timed_[static_cast<std::size_t>(load)];
  }
  /// @throws InputError if the plan was not timed.
  [[nodiscard]] double duration_us(std::int32_t load, const Plan& plan, Pass pass) const;

 private:
  std::vector<std::vector<TimedPlan>> timed_;  // by load: in the order of plans, passes together
};

}  // namespace flex
