#include <cmath>
#include <nlohmann/json.hpp>

#include "base/require.h"
#include "models/evaluation.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostPairs = 50;

Json class_json(std::int64_t label, std::span<const std::string> class_names) {
  if (class_names.empty()) return label;
  return class_names[static_cast<std::size_t>(label)];
}

Json classes_json(const ClassifierEvaluation& evaluation, std::span<const std::string> class_names) {
  Json classes = Json::array();
  for (std::int64_t label = 0; label < evaluation.num_classes(); ++label) {
    const std::int64_t samples = evaluation.num_of_class(label);
    Json accuracy;
    if (samples > 0)
      accuracy = static_cast<double>(evaluation.num_right(label)) / static_cast<double>(samples);
    classes.push_back(
        {{"class", class_json(label, class_names)}, {"samples", samples}, {"accuracy", std::move(accuracy)}});
  }
  return classes;
}

Json confusion_json(const ClassifierEvaluation& evaluation) {
  Json rows = Json::array();
  for (std::int64_t label = 0; label < evaluation.num_classes(); ++label) {
    Json row = Json::array();
    for (std::int64_t predicted = 0; predicted < evaluation.num_classes(); ++predicted)
      row.push_back(evaluation.confusion(label, predicted));
    rows.push_back(std::move(row));
  }
  return rows;
}

Json pairs_json(const ClassifierEvaluation& evaluation, std::span<const std::string> class_names) {
  Json pairs = Json::array();
  for (const ConfusedPair& pair : evaluation.most_confused(kMostPairs)) {
    pairs.push_back({{"class", class_json(pair.label, class_names)},
                     {"predicted", class_json(pair.predicted, class_names)},
                     {"count", pair.count}});
  }
  return pairs;
}

}  // namespace

Json to_json(const ClassifierEvaluation& evaluation, std::span<const std::string> class_names) {
  require(class_names.empty() || static_cast<std::int64_t>(class_names.size()) == evaluation.num_classes(),
          "an evaluation of {} classes has {} class names", evaluation.num_classes(), class_names.size());
  const double cross_entropy = evaluation.cross_entropy();
  Json json = {{"samples", evaluation.num_samples()},
               {"top1", evaluation.top1()},
               {"top5", evaluation.top5()},
               {"cross_entropy", std::isfinite(cross_entropy) ? Json(cross_entropy) : Json()},
               {"classes", classes_json(evaluation, class_names)}};
  if (evaluation.num_classes() <= kMaxConfusionClasses) {
    json["confusion"] = confusion_json(evaluation);
  } else {
    json["most_confused"] = pairs_json(evaluation, class_names);
  }
  return json;
}

}  // namespace flex
