#include "cli/tune_grid.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "base/json_object.h"

namespace flex::cli {
namespace {

constexpr std::size_t kMostLayers = 10'000;

using Setter = std::function<void(LayerOptions&)>;

/// One key's values, each as what it does to a layer.
template <class T>
std::vector<Setter> setters(JsonObject& grid, const std::string& key, T LayerOptions::*field,
                            const JsonRange& range) {
  if (!grid.contains(key)) {
    static_cast<void>(grid.optional<T>(key));  // finish() is to know the key
    return {};
  }
  const bool is_list = grid.raw(key).is_array();
  const std::vector<T> values =
      is_list ? grid.required<std::vector<T>>(key, range) : std::vector{grid.required<T>(key, range)};
  if (values.empty()) grid.reject(key, "is an empty list; give at least one value");
  std::vector<Setter> result;
  for (const T& value : values) {
    result.push_back([field, value](LayerOptions& layer) { layer.*field = value; });
  }
  return result;
}

std::vector<Setter> choice_setters(JsonObject& grid, const std::string& key, std::string LayerOptions::*field,
                                   const std::vector<std::string>& choices) {
  const std::vector<Setter> result = setters(grid, key, field, {});
  for (const Setter& set : result) {
    LayerOptions layer;
    set(layer);
    if (std::ranges::find(choices, layer.*field) == choices.end()) {
      grid.reject(key, "{} is none of {}", quote_name(layer.*field), fmt::join(choices, ", "));
    }
  }
  return result;
}

}  // namespace

std::vector<LayerOptions> read_layer_grid(const std::filesystem::path& file, const LayerOptions& base) {
  JsonObject grid = JsonObject::from_file(file);
  const JsonRange size = JsonRange::between(1, 1e12);
  const std::vector<std::vector<Setter>> axes = {
      setters(grid, "tokens", &LayerOptions::tokens, size),
      setters(grid, "model_dim", &LayerOptions::model_dim, size),
      setters(grid, "hidden_dim", &LayerOptions::hidden_dim, size),
      setters(grid, "experts", &LayerOptions::experts, size),
      setters(grid, "top_k", &LayerOptions::top_k, size),
      setters(grid, "capacity_factor", &LayerOptions::capacity_factor, JsonRange::between(-1e6, 1e6)),
      choice_setters(grid, "dtype", &LayerOptions::dtype, {"fp32", "fp64", "fp16", "bf16"}),
      choice_setters(grid, "gate", &LayerOptions::gate, {"linear", "cosine"}),
      choice_setters(grid, "activation", &LayerOptions::activation, {"gelu", "relu", "silu", "swiglu"}),
      choice_setters(grid, "gate_loss", &LayerOptions::loss,
                     {"none", "gshard", "load_importance", "load_importance_released"})};
  grid.finish();
  std::vector<LayerOptions> layers = {base};
  for (const std::vector<Setter>& axis : axes) {
    if (axis.empty()) continue;
    std::vector<LayerOptions> next;
    for (const LayerOptions& layer : layers) {
      for (const Setter& set : axis) {
        next.push_back(layer);
        set(next.back());
      }
    }
    require(next.size() <= kMostLayers, "{}: more than {} layers; take fewer values", file.string(),
            kMostLayers);
    layers = std::move(next);
  }
  return layers;
}

}  // namespace flex::cli
