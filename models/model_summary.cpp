#include "models/model_summary.h"

#include <algorithm>
#include <numeric>

#include "models/parameter_list.h"

namespace flex {
namespace {

double real(std::int64_t value) { return static_cast<double>(value); }

class Summarizer {
 public:
  Summarizer(const ModelConfig& config, const Routing& routing)
      : config_(config), routing_(routing), parameters_(parameter_list(config)) {}

  ModelSummary summarize() {
    embedding();
    for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage) {
      if (config_.merges_before(stage)) merging(stage, stage - 1);
      for (std::int64_t i = 0; i < config_.depths[static_cast<std::size_t>(stage)]; ++i) block({stage, i});
      if (config_.merges_after(stage)) merging(stage, stage);
    }
    head();
    return std::move(summary_);
  }

 private:
  // The parameters whose names begin with one of `prefixes` are the layer's.
  void add(LayerFigures layer, std::initializer_list<std::string> prefixes) {
    for (const ParameterSpec& spec : parameters_) {
      const bool is_own =
          std::ranges::any_of(prefixes, [&](const std::string& p) { return spec.name.starts_with(p); });
      if (!is_own || !spec.trained) continue;
      layer.parameters += spec.num_elements();
      if (spec.home == ParameterHome::kShared) layer.active_parameters += spec.num_elements();
      if (spec.home == ParameterHome::kExperts)
        layer.active_parameters += spec.num_elements() / config_.moe.num_experts * routing_.top_k;
    }
    summary_.layers.push_back(std::move(layer));
  }

  void embedding() {
    const Extent map = config_.map(0);
    const std::int64_t dim = config_.embed_dim;
    const std::int64_t patch =
        ModelConfig::kImageChannels * ModelConfig::kPatchSize * ModelConfig::kPatchSize;
    add({.name = "patch_embed",
         .map = map,
         .dim = dim,
         .multiply_accumulates = real(map.area()) * real(dim) * real(patch + 1)},
        {"patch_embed."});
  }

  // From the map of stage `from` to the next.
  void merging(std::int64_t stage, std::int64_t from) {
    const Extent map = config_.map(from + 1);
    const std::int64_t joined = ModelConfig::kMergedRows * config_.dim(from);
    const std::int64_t merged = config_.dim(from + 1);
    const std::int64_t normed = config_.is_pre_norm() ? joined : merged;
    const std::string prefix = merging_prefix(stage);
    add({.name = prefix.substr(0, prefix.size() - 1),
         .map = map,
         .dim = merged,
         .multiply_accumulates = real(map.area()) * (real(joined) * real(merged) + real(normed))},
        {prefix});
  }

  void block(BlockPlace place) {
    const WindowLayout window = config_.window(place);
    const std::string prefix = block_prefix(place);
    const bool is_moe = config_.is_moe(place);
    const double rows = real(window.map.area());
    const double dim = real(config_.dim(place.stage));
    const double linears = rows * 4 * dim * dim;  // q, k, v and the projection
    const double products = 2 * real(window.num_slots()) * real(window.window_size()) * dim;
    const double mlp = rows * 2 * dim * dim * real(config_.mlp_ratio);
    const double norms = 2 * rows * dim;
    add({.name = prefix.substr(0, prefix.size() - 1),
         .map = window.map,
         .dim = config_.dim(place.stage),
         .is_moe = is_moe,
         .multiply_accumulates = linears + products + mlp * (is_moe ? share() : 1) + norms},
        {prefix});
  }

  // Rows of the experts over those of the MLP.
  [[nodiscard]] double share() const {
    return real(routing_.top_k) * (routing_.capacity_factor > 0 ? routing_.capacity_factor : 1);
  }

  void head() {
    constexpr std::int64_t kLast = ModelConfig::kNumStages - 1;
    const double dim = real(config_.dim(kLast));
    add({.name = "head",
         .map = {1, 1},
         .dim = config_.num_classes,
         .multiply_accumulates = real(config_.map(kLast).area()) * dim + dim * real(config_.num_classes)},
        {"norm.", "head."});
  }

  const ModelConfig& config_;
  const Routing& routing_;
  std::vector<ParameterSpec> parameters_;
  ModelSummary summary_;
};

template <class T>
T total(const std::vector<LayerFigures>& layers, T LayerFigures::*part) {
  return std::accumulate(layers.begin(), layers.end(), T{},
                         [&](T sum, const LayerFigures& layer) { return sum + layer.*part; });
}

}  // namespace

std::int64_t ModelSummary::parameters() const { return total(layers, &LayerFigures::parameters); }
std::int64_t ModelSummary::active_parameters() const {
  return total(layers, &LayerFigures::active_parameters);
}
double ModelSummary::multiply_accumulates() const {
  return total(layers, &LayerFigures::multiply_accumulates);
}

ModelSummary summarize(const ModelConfig& config, const Routing& routing) {
  return Summarizer(config, routing).summarize();
}

}  // namespace flex
