#include "traces/replay/policy_result.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/units.h"
#include "costmodel/layer_memory.h"

namespace flex {
namespace {

void add(PolicyResult& result, const PassOutcome& pass) {
  result.total_us += pass.duration_us;
  result.error_us += pass.error_us;
  for (std::size_t i = 0; i < pass.class_us.size(); ++i) result.class_us[i] += pass.class_us[i];
  for (std::size_t i = 0; i < pass.origin_us.size(); ++i) result.origin_us[i] += pass.origin_us[i];
}

void sum_up_times(PolicyResult& result, const ScenarioTrace& trace,
                  std::span<const ReplayedIteration> replayed) {
  for (std::size_t i = 0; i < replayed.size(); ++i) {
    add(result, replayed[i].forward);
    add(result, replayed[i].backward);
    result.forward_us += replayed[i].forward.duration_us;
    result.backward_us += replayed[i].backward.duration_us;
    result.iteration_us.push_back(replayed[i].total_us());
    result.layers[static_cast<std::size_t>(trace.iterations[i].layer)].total_us += replayed[i].total_us();
  }
}

void count_plans(PolicyResult& result, const ScenarioTrace& trace,
                 std::span<const ReplayedIteration> replayed) {
  std::map<PlanPair, PlanUse> uses;
  std::vector<std::optional<PlanPair>> last(result.layers.size());
  for (std::size_t i = 0; i < replayed.size(); ++i) {
    PlanUse& use = uses[replayed[i].plans];
    use.plans = replayed[i].plans;
    ++use.iterations;
    use.total_us += replayed[i].total_us();
    const auto layer = static_cast<std::size_t>(trace.iterations[i].layer);
    if (last[layer] && *last[layer] != replayed[i].plans) {
      ++result.plan_changes;
      ++result.layers[layer].plan_changes;
    }
    last[layer] = replayed[i].plans;
  }
  for (const auto& [plans, use] : uses) result.plans.push_back(use);
  std::ranges::sort(result.plans, [](const PlanUse& a, const PlanUse& b) {
    return a.iterations != b.iterations ? a.iterations > b.iterations : a.plans < b.plans;
  });
  std::map<PlanPair, std::int32_t> places;
  for (const PlanUse& use : result.plans) places.emplace(use.plans, static_cast<std::int32_t>(places.size()));
  for (const ReplayedIteration& one : replayed) result.iteration_plan.push_back(places.at(one.plans));
}

/// Memory of one layer by load and plans, asked for again and again.
class LayerBytes {
 public:
  explicit LayerBytes(const ScenarioTrace& trace) : trace_(trace) {}

  std::int64_t of(std::int32_t load, const PlanPair& plans) {
    const auto [place, is_new] = known_.try_emplace({load, plans});
    if (is_new) {
      const Workload& workload = trace_.loads[static_cast<std::size_t>(load)].load.workload;
      place->second =
          layer_memory(workload, plans.forward, plans.backward, {.training = is_training()}).total_bytes();
    }
    return place->second;
  }
  [[nodiscard]] bool is_training() const { return trace_.passes != Passes::kForward; }

 private:
  const ScenarioTrace& trace_;
  std::map<std::pair<std::int32_t, PlanPair>, std::int64_t> known_;
};

ReplayMemory memory_of(const ScenarioTrace& trace, std::span<const ReplayedIteration> replayed,
                       const Cluster& cluster, std::int64_t base_bytes) {
  ReplayMemory memory;
  LayerBytes layer_bytes(trace);
  const std::optional<std::int64_t> device_bytes = rank_memory_bytes(cluster);
  // Inputs and outputs of layers, shared between neighbours; in training with their gradients.
  const auto borders = static_cast<std::int64_t>(trace.header.layers.size() + 1);
  const std::int64_t copies = layer_bytes.is_training() ? 2 : 1;
  for (std::size_t i = 0; i < replayed.size();) {
    const std::int64_t step = trace.iterations[i].step;
    std::int64_t bytes = base_bytes;
    std::int64_t token_bytes = 0;
    for (; i < replayed.size() && trace.iterations[i].step == step; ++i) {
      const std::int32_t load = trace.iterations[i].load;
      const Workload& w = trace.loads[static_cast<std::size_t>(load)].load.workload;
      token_bytes = std::max(token_bytes, w.num_tokens * w.model_dim * size_bytes(w.dtype));
      bytes += layer_bytes.of(load, replayed[i].plans);
    }
    bytes += borders * copies * token_bytes;
    memory.peak_bytes = std::max(memory.peak_bytes, bytes);
    if (device_bytes && bytes > *device_bytes) ++memory.infeasible_steps;
  }
  if (device_bytes) memory.fits = memory.infeasible_steps == 0;
  return memory;
}

std::optional<double> measured_us(const ScenarioTrace& trace) {
  double total_us = 0;
  for (const ReplayIteration& one : trace.iterations) {
    if (!one.forward_ns || (one.has_backward && !one.backward_ns)) return std::nullopt;
    total_us += static_cast<double>(*one.forward_ns + one.backward_ns.value_or(0)) * 1e-3;
  }
  return total_us;
}

void add_regret(PolicyResult& result, const PolicyResult& oracle, const ScenarioTrace& trace) {
  result.regret_us = result.total_us - oracle.total_us;
  if (oracle.total_us > 0) result.regret_share = *result.regret_us / oracle.total_us;
  for (LayerTotals& layer : result.layers) layer.regret_us = 0;
  for (std::size_t i = 0; i < trace.iterations.size(); ++i) {
    *result.layers[static_cast<std::size_t>(trace.iterations[i].layer)].regret_us +=
        result.iteration_us[i] - oracle.iteration_us[i];
  }
}

}  // namespace

std::optional<std::int64_t> rank_memory_bytes(const Cluster& cluster) {
  const double memory_GiB = cluster.device.memory_GiB / std::max(cluster.ranks_per_device, 1);
  if (memory_GiB <= 0) return std::nullopt;
  return static_cast<std::int64_t>(memory_GiB * kBytesPerGiB);
}

PolicyResult policy_result(const ReplayPolicy& policy, const ScenarioTrace& trace,
                           std::span<const ReplayedIteration> replayed, const Cluster& cluster,
                           std::int64_t base_bytes) {
  PolicyResult result{.policy = policy};
  result.layers.resize(trace.header.layers.size());
  sum_up_times(result, trace, replayed);
  count_plans(result, trace, replayed);
  result.memory = memory_of(trace, replayed, cluster, base_bytes);
  if (policy.kind == ReplayPolicy::Kind::kRecorded) result.measured_us = measured_us(trace);
  return result;
}

void fill_in_comparisons(std::span<PolicyResult> results, const ScenarioTrace& trace) {
  const auto find = [&](auto&& is) -> const PolicyResult* {
    const auto found = std::ranges::find_if(results, [&](const auto& one) { return is(one.policy); });
    return found == results.end() ? nullptr : &*found;
  };
  const PolicyResult* base = find([](const ReplayPolicy& one) { return one == kDefaultPolicy; });
  const PolicyResult* best =
      find([](const ReplayPolicy& one) { return one.kind == ReplayPolicy::Kind::kBestStatic; });
  const PolicyResult* oracle = find([](const ReplayPolicy& one) { return one.is_oracle(); });
  for (PolicyResult& result : results) {
    if (result.total_us > 0) {
      if (base != nullptr) result.speedup_over_default = base->total_us / result.total_us;
      if (best != nullptr) result.speedup_over_best_static = best->total_us / result.total_us;
    }
    if (oracle != nullptr) add_regret(result, *oracle, trace);
  }
}

}  // namespace flex
