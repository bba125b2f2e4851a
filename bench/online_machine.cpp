#include "bench/online_machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>
#include <stdexcept>

#include "base/philox.h"
#include "bench/search_settings.h"
#include "costmodel/plan_space.h"
#include "tuner/fastest_pair.h"
#include "tuner/simulated_evaluator.h"

namespace flex::bench {
namespace {

OnlineSetting draw_setting(const Cluster& cluster, double link_factor, PhiloxStream& random) {
  static constexpr std::int64_t kLeastCapacity = 16;
  static constexpr std::int64_t kLargestCapacity = 4096;
  OnlineSetting setting{.cluster = cluster, .link_factor = link_factor};
  Workload& w = setting.workload;
  do {
    w = draw_workload(cluster, random);
    w.capacity = w.top_k * w.num_tokens / w.num_experts;
  } while (w.capacity < kLeastCapacity || w.capacity > kLargestCapacity);
  return setting;
}

CostModel after_change(const OnlineSetting& setting) {
  CostParameters parameters = calibration_of(setting.cluster).parameters;
  LinkParameters& link = setting.cluster.nodes > 1 ? parameters.inter_node : parameters.intra_node;
  link.bandwidth_efficiency *= setting.link_factor;
  return {setting.cluster, parameters};
}

}  // namespace

std::string OnlineSetting::text() const {
  return fmt::format("{} W{} E{} T{} M{} H{} C{} {} x{}", cluster.name, workload.world, workload.num_experts,
                     workload.num_tokens, workload.model_dim, workload.hidden_dim, workload.capacity,
                     cluster.nodes > 1 ? "inter" : "intra", link_factor);
}

std::vector<OnlineSetting> draw_online_settings(int shapes_per_world, std::uint64_t seed) {
  std::vector<OnlineSetting> settings;
  PhiloxStream random(seed);
  for (const char* name : {"azure_ndv4_a100", "dgx_h100"}) {
    for (const int nodes : {1, 4, 16, 32, 64, 256}) {
      const Cluster cluster = load_cluster(name, nodes);
      for (int i = 0; i < shapes_per_world; ++i)
        settings.push_back(draw_setting(cluster, i % 2 == 0 ? 0.5 : 2.0, random));
    }
  }
  return settings;
}

std::vector<std::int64_t> draw_capacities(std::int64_t least, int num_iterations, std::uint64_t seed) {
  constexpr double kJitter = 0.03;
  PhiloxStream random(seed);
  // Two waves of their own phases and lengths, between 0 and 1 together.
  const double phases[] = {random.uniform(), random.uniform()};
  const double waves[] = {0.5 + random.uniform(), 2 + 2 * random.uniform()};
  const std::int64_t step = std::max<std::int64_t>(least / 32, 1);
  std::vector<std::int64_t> capacities;
  for (int i = 0; i < num_iterations; ++i) {
    const double time = static_cast<double>(i) / num_iterations;
    const auto wave = [&](int which) {
      return (1 - std::cos(2 * std::numbers::pi * (waves[which] * time + phases[which]))) / 2;
    };
    const double grown = std::log(kLargestGrowth) * (0.8 * wave(0) + 0.2 * wave(1));
    const double growth = std::clamp(std::exp(grown + kJitter * random.normal()), 1.0, kLargestGrowth);
    capacities.push_back(
        std::max<std::int64_t>(std::llround(growth * static_cast<double>(least) / static_cast<double>(step)),
                               1) *
        step);
  }
  return capacities;
}

OnlineMachine::OnlineMachine(const OnlineSetting& setting)
    : setting_(setting),
      before_(setting.cluster, calibration_of(setting.cluster).parameters),
      after_(after_change(setting)) {}

LayerLoad OnlineMachine::load(std::int64_t capacity) const {
  LayerLoad load{.workload = setting_.workload};
  load.workload.capacity = capacity;
  return load;
}

const OnlineMachine::Table& OnlineMachine::table(std::int64_t capacity, bool has_changed) {
  const auto [found, is_new] = tables_.try_emplace({capacity, has_changed});
  Table& table = found->second;
  if (!is_new) return table;
  const Workload workload = load(capacity).workload;
  SimulatedEvaluator evaluator(workload, setting_.cluster, has_changed ? after_ : before_);
  table.plans = PlanSpace(workload, setting_.cluster).plans();
  std::vector<TimedPlan> timed;
  for (const Plan& plan : table.plans) {
    table.forward_us.push_back(evaluator.truth_us(plan, Pass::kForward));
    table.backward_us.push_back(evaluator.truth_us(plan, Pass::kBackward));
    timed.push_back({plan, Pass::kForward, table.forward_us.back()});
    timed.push_back({plan, Pass::kBackward, table.backward_us.back()});
  }
  table.best_us = fastest_pair(timed, Passes::kBoth)->total_us;
  return table;
}

double OnlineMachine::duration_us(std::int64_t capacity, bool has_changed, const Plan& plan, Pass pass) {
  const Table& one = table(capacity, has_changed);
  const auto found = std::ranges::lower_bound(one.plans, plan);
  if (found == one.plans.end() || *found != plan) {
    throw std::out_of_range(fmt::format("plan {} is illegal at capacity {}", to_string(plan), capacity));
  }
  const auto at = static_cast<std::size_t>(found - one.plans.begin());
  return pass == Pass::kForward ? one.forward_us[at] : one.backward_us[at];
}

}  // namespace flex::bench
