#include "traces/replay/scenario_trace.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/philox.h"
#include "kernels/moe/route.h"
#include "traces/replay/expert_load_map.h"
#include "traces/replay/top_k_change.h"

namespace flex {
namespace {

TraceHeader changed_header(TraceHeader header, const Scenario& scenario) {
  for (TraceLayer& layer : header.layers) {
    Workload& w = layer.workload;
    if (scenario.top_k) w.top_k = *scenario.top_k;
    if (scenario.capacity_factor) layer.capacity_factor = *scenario.capacity_factor;
    if (scenario.dtype) w.dtype = *scenario.dtype;
    if (scenario.hidden_dim) w.hidden_dim = *scenario.hidden_dim;
    w.dropless = layer.capacity_factor <= 0;
  }
  validate(header);
  return header;
}

bool has_even_tokens(const SparseCounts& counts, const Workload& workload) {
  if (static_cast<int>(counts.num_rows()) != workload.world) return counts.empty();
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    std::int64_t choices = 0;
    for (const ExpertCount& entry : counts.row(r).experts) choices += entry.choices;
    if (choices != workload.num_tokens * workload.top_k) return false;
  }
  return true;
}

std::uint64_t hash_of(const ReplayLoad& load) {
  std::uint64_t hash = splitmix64(static_cast<std::uint64_t>(load.load.workload.capacity));
  const auto fold = [&](std::int64_t value) { hash = splitmix64(hash ^ static_cast<std::uint64_t>(value)); };
  fold(load.load.workload.num_tokens);
  for (std::size_t r = 0; r < load.counts.num_rows(); ++r) {
    const SparseCounts::Row row = load.counts.row(r);
    fold(row.source);
    for (const ExpertCount& entry : row.experts) {
      fold((std::int64_t{entry.expert} << 32) + entry.choices);
    }
  }
  return hash;
}

bool are_alike(const ReplayLoad& a, const ReplayLoad& b) {
  return a.load.workload == b.load.workload && a.load.max_over_mean == b.load.max_over_mean &&
         a.counts == b.counts;
}

/// Makes the iterations of a scenario one by one.
class ScenarioBuilder {
 public:
  ScenarioBuilder(const IterationTrace& trace, const Scenario& scenario, const Cluster& cluster,
                  std::uint64_t seed)
      : trace_(trace), scenario_(scenario) {
    result_.header = trace.header;
    if (cluster.world() != trace.header.world) {
      resharder_.emplace(trace.header, ReshardOptions{.world = cluster.world(),
                                                      .ranks_per_node = cluster.ranks_per_node,
                                                      .policy = scenario.reshard,
                                                      .seed = seed});
      result_.header = resharder_->header();
      result_.reshard = scenario.reshard;
    }
    result_.header.ranks_per_node = cluster.ranks_per_node;
    result_.header = changed_header(std::move(result_.header), scenario);
    result_.passes = trace.passes();
  }

  void add(const TraceIteration& from) {
    if (result_.steps.empty() || result_.steps.back() != from.step) result_.steps.push_back(from.step);
    TraceLayer layer = result_.header.layers[static_cast<std::size_t>(from.layer)];
    if (!scenario_.top_k) layer.workload.top_k = from.top_k;
    if (!scenario_.capacity_factor) layer.capacity_factor = from.capacity_factor;
    layer.workload.dropless = layer.capacity_factor <= 0;
    SparseCounts counts = resharded(from);
    if (scenario_.top_k) {
      counts = with_top_k(counts, from.top_k, *scenario_.top_k, layer.workload.num_experts);
    }
    const CountSummary summary = summarize(counts, layer.workload.num_experts);
    ReplayLoad load{.layer = from.layer, .load = replay_load(layer, counts)};
    load.has_even_tokens = has_even_tokens(counts, load.load.workload);
    ReplayIteration iteration{.step = from.step,
                              .layer = from.layer,
                              .has_backward = from.has_backward,
                              .needed_capacity = summary.needed_capacity,
                              .max_over_mean = summary.max_over_mean,
                              .num_choices = summary.num_choices,
                              .num_dropped = num_dropped(counts, load.load.workload.capacity),
                              .recorded = from.plans(),
                              .forward_ns = from.forward_ns,
                              .backward_ns = from.backward_ns};
    map_->add(result_.steps.size() - 1, from.layer, counts);
    if (layer.workload.dropless || !load.has_even_tokens) load.counts = std::move(counts);
    iteration.load = place_of(std::move(load));
    result_.iterations.push_back(iteration);
  }

  ScenarioTrace build() && {
    std::vector<std::int64_t> steps;
    for (const TraceIteration& iteration : trace_.iterations) {
      if (steps.empty() || steps.back() != iteration.step) steps.push_back(iteration.step);
    }
    map_.emplace(result_.header, steps);
    result_.iterations.reserve(trace_.iterations.size());
    for (const TraceIteration& iteration : trace_.iterations) add(iteration);
    result_.expert_load = std::move(*map_).take();
    return std::move(result_);
  }

 private:
  [[nodiscard]] SparseCounts resharded(const TraceIteration& from) const {
    if (!resharder_) return from.counts;
    return resharder_
        ->reshard({.step = from.step, .layer = from.layer, .top_k = from.top_k, .counts = from.counts})
        .counts;
  }

  std::int32_t place_of(ReplayLoad&& load) {
    const std::uint64_t hash = hash_of(load);
    const auto [first, last] = places_.equal_range(hash);
    for (auto place = first; place != last; ++place) {
      if (are_alike(result_.loads[static_cast<std::size_t>(place->second)], load)) return place->second;
    }
    const auto index = static_cast<std::int32_t>(result_.loads.size());
    places_.emplace(hash, index);
    result_.loads.push_back(std::move(load));
    return index;
  }

  const IterationTrace& trace_;
  const Scenario& scenario_;
  std::optional<Resharder> resharder_;
  std::optional<ExpertLoadCounter> map_;
  std::unordered_multimap<std::uint64_t, std::int32_t> places_;
  ScenarioTrace result_;
};

}  // namespace

std::int64_t num_dropped(const SparseCounts& counts, std::int64_t capacity) {
  std::int64_t dropped = 0;
  for (std::size_t r = 0; r < counts.num_rows(); ++r) {
    for (const ExpertCount& entry : counts.row(r).experts) {
      dropped += std::max<std::int64_t>(entry.choices - capacity, 0);
    }
  }
  return dropped;
}

LayerLoad replay_load(const TraceLayer& layer, const SparseCounts& counts) {
  const CountSummary summary = summarize(counts, layer.workload.num_experts);
  LayerLoad load{.workload = layer.workload};
  Workload& w = load.workload;
  w.num_tokens = summary.max_choices / w.top_k;
  w.capacity =
      expert_capacity(w.top_k, layer.capacity_factor, w.num_tokens, w.num_experts, summary.needed_capacity);
  w.pass = Pass::kForward;
  validate(w);
  // With a fixed capacity times do not depend on the counts, which the layer's ranks do not exchange.
  if (w.dropless) load.max_over_mean = max_over_mean_within(counts, w.capacity, w.num_experts);
  return load;
}

ScenarioTrace scenario_trace(const IterationTrace& trace, const Scenario& scenario, const Cluster& cluster,
                             std::uint64_t seed) {
  return ScenarioBuilder(trace, scenario, cluster, seed).build();
}

}  // namespace flex
