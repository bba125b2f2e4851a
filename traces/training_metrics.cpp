#include "traces/training_metrics.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/read_file.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

constexpr JsonRange kCount = {.min = 0};
constexpr JsonRange kShare = {.min = 0, .max = 1};

void add_figure(Json& json, const char* key, double value) {
  if (std::isfinite(value)) json[key] = value;
}

Json to_json(const StepMetrics& step) {
  Json json = {{"kind", "step"}, {"step", step.step}, {"epoch", step.epoch}};
  add_figure(json, "loss", step.loss);
  add_figure(json, "cross_entropy", step.cross_entropy);
  add_figure(json, "auxiliary_loss", step.auxiliary_loss);
  add_figure(json, "gradient_norm", step.gradient_norm);
  add_figure(json, "learning_rate", step.learning_rate);
  add_figure(json, "loss_scale", step.loss_scale);
  json["updated"] = step.updated;
  add_figure(json, "images_per_s", step.images_per_s);
  if (step.moe_share) add_figure(json, "moe_share", *step.moe_share);
  if (!step.plans.empty()) json["plans"] = step.plans;
  return json;
}

Json to_json(const EvaluationMetrics& evaluation) {
  Json json = {{"kind", "evaluation"},
               {"step", evaluation.step},
               {"epoch", evaluation.epoch},
               {"samples", evaluation.samples}};
  add_figure(json, "loss", evaluation.loss);
  json["top1"] = evaluation.top1;
  json["top5"] = evaluation.top5;
  return json;
}

double figure(JsonObject& json, std::string_view key, const JsonRange& range = {}) {
  return json.optional<double>(key, range).value_or(kNoFigure);
}

StepMetrics parse_step(JsonObject& json) {
  return {.step = json.required<std::int64_t>("step", JsonRange::at_least(1)),
          .epoch = json.required<std::int64_t>("epoch", kCount),
          .loss = figure(json, "loss"),
          .cross_entropy = figure(json, "cross_entropy"),
          .auxiliary_loss = figure(json, "auxiliary_loss"),
          .gradient_norm = figure(json, "gradient_norm", kCount),
          .learning_rate = figure(json, "learning_rate", kCount),
          .loss_scale = figure(json, "loss_scale", kCount),
          .updated = json.required<bool>("updated"),
          .images_per_s = figure(json, "images_per_s", kCount),
          .moe_share = json.optional<double>("moe_share", kShare),
          .plans = json.optional<std::string>("plans").value_or("")};
}

EvaluationMetrics parse_evaluation(JsonObject& json) {
  return {.step = json.required<std::int64_t>("step", kCount),
          .epoch = json.required<std::int64_t>("epoch", kCount),
          .samples = json.required<std::int64_t>("samples", kCount),
          .loss = figure(json, "loss"),
          .top1 = json.required<double>("top1", kShare),
          .top5 = json.required<double>("top5", kShare)};
}

MetricsRecord parse_record(nlohmann::json value, const std::string& where) {
  JsonObject json(std::move(value), where);
  MetricsRecord record;
  if (!json.contains("kind"))
    json.reject("kind", "is missing; a line of metrics is a \"step\" or an \"evaluation\"");
  if (json.one_of("kind", {"step", "evaluation"}) == "step") {
    record = parse_step(json);
  } else {
    record = parse_evaluation(json);
  }
  json.finish();
  return record;
}

// parse_json() counts lines within what it is given, which is one.
nlohmann::json parse_line(std::string_view text, const std::string& where) {
  constexpr std::string_view kFirstLine = ":1";
  try {
    return parse_json(text, "");
  } catch (const InputError& error) {
    std::string_view message = error.what();
    if (message.starts_with(kFirstLine)) message.remove_prefix(kFirstLine.size());
    throw InputError(where + std::string(message));
  }
}

/// Steps that go on: no line behind one of a later step, and no two of a kind for one step.
class StepOrder {
 public:
  void check(const MetricsRecord& record, const std::string& where) {
    const std::int64_t step = std::visit([](const auto& one) { return one.step; }, record);
    std::int64_t& last_of_kind = last_of_kinds_[record.index()];
    require(step >= last_, "{}: step: is {}; a line before has {}", where, step, last_);
    require(step > last_of_kind, "{}: step: is {}, as in another line of its kind", where, step);
    last_ = last_of_kind = step;
  }

 private:
  std::int64_t last_ = 0;
  std::int64_t last_of_kinds_[2] = {-1, -1};
};

}  // namespace

std::string metrics_line(const MetricsRecord& record) {
  return std::visit([](const auto& one) { return to_json(one).dump() + "\n"; }, record);
}

void parse_metrics(std::string_view content, const std::string& file,
                   const std::function<void(const ParsedMetricsLine&)>& visit) {
  StepOrder order;
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t newline = content.find('\n', begin);
    const bool has_end = newline != std::string_view::npos;
    const std::size_t end = has_end ? newline + 1 : content.size();
    const std::string_view text = content.substr(begin, (has_end ? newline : end) - begin);
    const std::string where = fmt::format("{}:{}", file, ++number);
    if (!has_end && !nlohmann::json::accept(text)) return;
    const MetricsRecord record = parse_record(parse_line(text, where), where);
    order.check(record, where);
    visit({.record = record, .begin = begin, .end = end, .has_end = has_end});
    begin = end;
  }
}

TrainingMetrics read_metrics(const std::filesystem::path& path) {
  TrainingMetrics metrics;
  parse_metrics(read_file(path, kMaxMetricsBytes), path.string(), [&](const ParsedMetricsLine& line) {
    if (const auto* step = std::get_if<StepMetrics>(&line.record)) metrics.steps.push_back(*step);
    if (const auto* one = std::get_if<EvaluationMetrics>(&line.record)) metrics.evaluations.push_back(*one);
  });
  return metrics;
}

}  // namespace flex
