#include "traces/report/tune_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace flex {
namespace {

ReportSearch parse_search(JsonObject object) {
  return {.strategy = object.required<std::string>("strategy"),
          .plan = object.required<std::string>("plan"),
          .backward_plan = object.optional<std::string>("backward_plan").value_or(""),
          .total_us = object.required<double>("total_us", JsonRange::at_least(0)),
          .default_us = object.required<double>("default_us", JsonRange::at_least(0)),
          .gain = object.required<double>("gain"),
          .evaluations = object.required<std::int64_t>("evaluations", JsonRange::at_least(0)),
          .regret = object.optional<double>("regret"),
          .complete = object.optional<bool>("complete").value_or(true)};
}

// Sizes by the letters that the program's other tables have for them.
std::vector<std::string> sizes_of(JsonObject& layer) {
  constexpr std::pair<const char*, const char*> kSizes[] = {
      {"T", "tokens_per_rank"}, {"M", "model_dim"}, {"H", "hidden_dim"}, {"E", "experts"}, {"k", "top_k"}};
  std::vector<std::string> sizes;
  for (const auto& [letter, key] : kSizes) {
    if (const auto value = layer.optional<std::int64_t>(key))
      sizes.push_back(fmt::format("{} {}", letter, *value));
  }
  if (const auto factor = layer.optional<double>("capacity_factor"))
    sizes.push_back(fmt::format("f {}", *factor));
  if (const auto dtype = layer.optional<std::string>("dtype")) sizes.push_back(*dtype);
  return sizes;
}

ReportLayer parse_layer(JsonObject object) {
  ReportLayer layer{.sizes = sizes_of(object),
                    .capacity = object.optional<std::int64_t>("capacity"),
                    .candidates = object.required<std::int64_t>("candidates", JsonRange::at_least(0))};
  for (JsonObject& search : object.required<std::vector<JsonObject>>("strategies")) {
    layer.searches.push_back(parse_search(std::move(search)));
  }
  if (layer.searches.empty()) object.reject("strategies", "is empty; a layer is tuned by at least one");
  return layer;
}

}  // namespace

const ReportSearch& ReportLayer::best() const {
  return *std::ranges::min_element(searches, {}, &ReportSearch::total_us);
}

TuneDocument parse_tune_document(JsonObject document) {
  TuneDocument tune{.on = document.required<std::string>("on"),
                    .pass = document.optional<std::string>("pass").value_or(""),
                    .interrupted = document.optional<bool>("interrupted").value_or(false)};
  for (JsonObject& layer : document.required<std::vector<JsonObject>>("layers")) {
    tune.layers.push_back(parse_layer(std::move(layer)));
  }
  if (tune.layers.empty()) document.reject("layers", "is empty; no layer was tuned");
  if (auto best = document.optional<JsonObject>("best_static")) {
    const auto forward = best->required<std::string>("plan");
    const auto backward = best->optional<std::string>("backward_plan").value_or(forward);
    tune.best_static = forward == backward ? forward : forward + " / " + backward;
    tune.best_static_us = best->required<double>("total_us", JsonRange::at_least(0));
    tune.tuned_us = best->required<double>("tuned_us", JsonRange::at_least(0));
  }
  return tune;
}

}  // namespace flex
