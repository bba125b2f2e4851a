#include "traces/report/simulate_document.h"

#include "costmodel/prediction.h"

namespace flex {
namespace {

ReportPrediction parse_prediction(JsonObject object) {
  const auto forward = object.required<std::string>("plan");
  const auto backward = object.optional<std::string>("backward_plan").value_or(forward);
  ReportPrediction prediction{.plans = forward == backward ? forward : forward + " / " + backward,
                              .total_us = object.required<double>("total_us", JsonRange::at_least(0)),
                              .error_us = object.required<double>("error_us", JsonRange::at_least(0)),
                              .memory_bytes = object.optional<std::int64_t>("memory_bytes"),
                              .fits = object.optional<bool>("fits"),
                              .speedup = object.optional<double>("speedup")};
  if (auto classes = object.optional<JsonObject>("critical_path")) {
    for (int c = 0; c < kNumOperationClasses; ++c) {
      const std::string key(name(static_cast<OperationClass>(c)));
      prediction.class_us.emplace_back(key, classes->optional<double>(key + "_us").value_or(0));
    }
  }
  return prediction;
}

ReportSize parse_size(JsonObject object) {
  ReportSize size{.ranks = object.required<std::int64_t>("ranks", JsonRange::at_least(1)),
                  .nodes = object.optional<std::int64_t>("nodes").value_or(0),
                  .experts = object.optional<std::int64_t>("experts").value_or(0),
                  .capacity = object.optional<std::int64_t>("capacity").value_or(0),
                  .fairseq_us = object.optional<double>("fairseq_us", JsonRange::at_least(0))};
  for (JsonObject& plan : object.required<std::vector<JsonObject>>("plans")) {
    size.predictions.push_back(parse_prediction(std::move(plan)));
  }
  if (size.predictions.empty()) object.reject("plans", "is empty; each size has at least one");
  return size;
}

}  // namespace

std::size_t ReportSize::best() const {
  std::size_t best = 0;
  const auto fits = [&](std::size_t i) { return predictions[i].fits.value_or(true); };
  for (std::size_t i = 1; i < predictions.size(); ++i) {
    const bool faster = predictions[i].total_us < predictions[best].total_us;
    if (fits(i) != fits(best) ? fits(i) : faster) best = i;
  }
  return best;
}

SimulateDocument parse_simulate_document(JsonObject document) {
  SimulateDocument simulate{.cluster = document.required<std::string>("cluster"),
                            .pass = document.optional<std::string>("pass").value_or("")};
  if (auto calibration = document.optional<JsonObject>("calibration")) {
    simulate.calibration = calibration->optional<std::string>("description").value_or("");
    simulate.fitted = calibration->optional<bool>("fitted").value_or(true);
  }
  for (JsonObject& size : document.required<std::vector<JsonObject>>("sizes")) {
    simulate.sizes.push_back(parse_size(std::move(size)));
  }
  if (simulate.sizes.empty()) document.reject("sizes", "is empty; a prediction has at least one");
  return simulate;
}

}  // namespace flex
