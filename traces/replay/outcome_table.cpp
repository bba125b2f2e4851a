#include "traces/replay/outcome_table.h"

#include <algorithm>
#include <tuple>

#include "base/philox.h"
#include "base/require.h"

namespace flex {

std::size_t OutcomeTable::Hash::operator()(const Key& key) const noexcept {
  const auto place = (static_cast<std::uint64_t>(key.load) << 1) | static_cast<std::uint64_t>(key.pass);
  return static_cast<std::size_t>(splitmix64(place) ^ stable_hash(key.plan));
}

PassOutcome OutcomeTable::outcome(std::int32_t load, const Plan& plan, Pass pass, LoadSimulator& simulator) {
  const Key key{.load = load, .pass = pass, .plan = plan};
  Shard& shard = shards_[Hash()(key) % kNumShards];
  {
    const std::lock_guard lock(shard.mutex);
    if (const auto known = shard.outcomes.find(key); known != shard.outcomes.end()) return known->second;
  }
  // Not under the lock: another thread may simulate the same, and finds the same.
  const PassOutcome outcome = simulator.outcome(this->load(load), plan, pass);
  const std::lock_guard lock(shard.mutex);
  shard.outcomes.emplace(key, outcome);
  return outcome;
}

void DurationTable::fill(std::int32_t index, const ReplayLoad& load, std::span<const Plan> plans,
                         Passes passes, LoadSimulator& simulator) {
  std::vector<TimedPlan>& timed = timed_[static_cast<std::size_t>(index)];
  timed.clear();
  for (const Plan& plan : plans) {
    for (const Pass pass : passes_of(passes)) {
      timed.push_back({plan, pass, simulator.duration_us(load, plan, pass)});
    }
  }
  std::ranges::sort(timed, {}, [](const TimedPlan& one) { return std::tuple(one.plan, one.pass); });
}

double DurationTable::duration_us(std::int32_t load, const Plan& plan, Pass pass) const {
  const std::vector<TimedPlan>& timed = timed_[static_cast<std::size_t>(load)];
  const auto found = std::ranges::lower_bound(
      timed, std::tuple(plan, pass), {}, [](const TimedPlan& one) { return std::tuple(one.plan, one.pass); });
  require(found != timed.end() && found->plan == plan && found->pass == pass,
          "plan '{}' was not timed in its {} pass at this load", to_string(plan), name(pass));
  return found->duration_us;
}

}  // namespace flex
