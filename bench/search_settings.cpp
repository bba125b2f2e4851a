#include "bench/search_settings.h"

#include <span>

#include "base/require.h"
#include "costmodel/cluster_description.h"
#include "kernels/moe/route.h"

namespace flex::bench {
namespace {

template <class T>
T one_of(std::span<const T> values, PhiloxStream& random) {
  return values[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(values.size())))];
}

SearchSetting draw_setting(const Cluster& cluster, PhiloxStream& random) {
  static constexpr double kCapacityFactors[] = {0.5, 1, 2, 4, 8};
  SearchSetting setting{.cluster = cluster, .workload = draw_workload(cluster, random)};
  Workload& w = setting.workload;
  setting.capacity_factor = one_of<double>(kCapacityFactors, random);
  w.capacity = expert_capacity(w.top_k, setting.capacity_factor, w.num_tokens, w.num_experts, 0);
  return setting;
}

}  // namespace

Workload draw_workload(const Cluster& cluster, PhiloxStream& random) {
  static constexpr std::int64_t kFixedExperts = 16;
  static constexpr std::int64_t kModelDims[] = {1024, 2048, 4096};
  static constexpr std::int64_t kHiddenDims[] = {1024, 2048, 4096, 8192, 16384, 32768};
  static constexpr std::int64_t kTokens[] = {4096, 16384, 65536};
  const std::int64_t world = cluster.world();
  const std::int64_t experts[] = {world / 2, world, 2 * world, kFixedExperts};
  return {.world = cluster.world(),
          .num_experts = one_of<std::int64_t>(experts, random),
          .num_tokens = one_of<std::int64_t>(kTokens, random),
          .top_k = 2,
          .model_dim = one_of<std::int64_t>(kModelDims, random),
          .hidden_dim = one_of<std::int64_t>(kHiddenDims, random),
          .dtype = cluster.name == "azure_ndv4_a100" ? DType::kF32 : DType::kBF16};
}

std::string SearchSetting::text() const {
  return fmt::format("{} W{} E{} T{} M{} H{} f{}", cluster.name, workload.world, workload.num_experts,
                     workload.num_tokens, workload.model_dim, workload.hidden_dim, capacity_factor);
}

std::vector<SearchSetting> draw_search_settings(int shapes_per_world, std::uint64_t seed) {
  constexpr int kMostNodes = 256;  // of 8 GPUs
  std::vector<SearchSetting> settings;
  PhiloxStream random(seed);
  for (const char* name : {"azure_ndv4_a100", "dgx_h100"}) {
    for (int nodes = 1; nodes <= kMostNodes; nodes *= 2) {
      const Cluster cluster = load_cluster(name, nodes);
      for (int i = 0; i < shapes_per_world;) {
        SearchSetting setting = draw_setting(cluster, random);
        if (setting.workload.capacity == 0) continue;
        settings.push_back(std::move(setting));
        ++i;
      }
    }
  }
  return settings;
}

}  // namespace flex::bench
