#include "bench/effectiveness_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "models/model_summary.h"

namespace flex::bench {
namespace {

using Figure = std::function<double(const StudyRun&)>;

std::vector<const StudyRun*> runs_of(const StudyResult& result, std::int64_t experts) {
  std::vector<const StudyRun*> runs;
  for (const StudyRun& run : result.runs) {
    if (run.experts == experts) runs.push_back(&run);
  }
  return runs;
}

double routed(const StudyRun& run, const StudyRouting& routing) {
  const auto found = std::ranges::find_if(run.routed, [&](const RoutedAccuracy& accuracy) {
    return accuracy.routing.capacity_factor == routing.capacity_factor &&
           accuracy.routing.batch_prioritized == routing.batch_prioritized;
  });
  return found->top1;
}

double top1(const StudyRun& run) { return run.top1; }

// In percent.
std::vector<double> figures(const StudyResult& result, std::int64_t experts, const Figure& figure) {
  std::vector<double> values;
  for (const StudyRun* run : runs_of(result, experts)) values.push_back(100 * figure(*run));
  return values;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Of the sample; nothing is known of the spread of one run.
std::string mean_and_spread(const std::vector<double>& values) {
  if (values.size() < 2) return fmt::format("{:.2f}", mean(values));
  double squares = 0;
  for (const double value : values) squares += (value - mean(values)) * (value - mean(values));
  return fmt::format("{:.2f} ± {:.2f}", mean(values),
                     std::sqrt(squares / static_cast<double>(values.size() - 1)));
}

StudyOrdering compare(std::string text, const std::vector<double>& better, const std::vector<double>& worse) {
  StudyOrdering ordering{.text = std::move(text), .num_pairs = static_cast<std::int64_t>(better.size())};
  for (std::size_t i = 0; i < better.size(); ++i) {
    ordering.mean_gain += (better[i] - worse[i]) / static_cast<double>(better.size());
    ordering.num_showing += better[i] > worse[i] ? 1 : 0;
  }
  return ordering;
}

bool has_model(const StudyResult& result, std::int64_t experts) {
  return std::ranges::find(result.settings.experts, experts) != result.settings.experts.end();
}

std::vector<std::int64_t> moe_models(const StudyResult& result) {
  std::vector<std::int64_t> experts;
  std::ranges::copy_if(result.settings.experts, std::back_inserter(experts), [](auto e) { return e > 0; });
  std::ranges::sort(experts);
  return experts;
}

std::string models_table(const StudyResult& result) {
  std::string text =
      "| model | parameters, M | active, M | MMAC per image | top-1 of each seed, % | mean ± sd | over dense "
      "|\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const std::int64_t experts : result.settings.experts) {
    const ModelConfig config = study_model(result.settings, experts);
    const ModelSummary summary = summarize(config, config.moe.training);
    const std::vector<double> accuracy = figures(result, experts, top1);
    std::string seeds;
    for (const double value : accuracy) seeds += fmt::format("{}{:.2f}", seeds.empty() ? "" : ", ", value);
    std::string gain;
    if (experts > 0 && has_model(result, 0))
      gain = fmt::format("{:+.2f}", mean(accuracy) - mean(figures(result, 0, top1)));
    text += fmt::format("| {} | {:.3f} | {:.3f} | {:.2f} | {} | {} | {} |\n", config.name,
                        static_cast<double>(summary.parameters()) * 1e-6,
                        static_cast<double>(summary.active_parameters()) * 1e-6,
                        summary.multiply_accumulates() * 1e-6, seeds, mean_and_spread(accuracy), gain);
  }
  return text;
}

std::string routings_table(const StudyResult& result) {
  std::string text =
      "| model | f of inference | batch-prioritized, % | token order, % | difference |\n"
      "| --- | --- | --- | --- | --- |\n";
  for (const std::int64_t experts : moe_models(result)) {
    for (const double capacity : kStudyCapacities) {
      const auto with = [&](bool prioritized) {
        return figures(result, experts, [&](const StudyRun& run) {
          return routed(run, {.capacity_factor = capacity, .batch_prioritized = prioritized});
        });
      };
      text += fmt::format("| {} | {} | {} | {} | {:+.2f} |\n", name_of_model(experts), capacity,
                          mean_and_spread(with(true)), mean_and_spread(with(false)),
                          mean(with(true)) - mean(with(false)));
    }
  }
  return text;
}

std::string orderings_list(const StudyResult& result) {
  std::string text;
  for (const StudyOrdering& ordering : study_orderings(result)) {
    text += fmt::format("- {}: {}; {:+.2f} points on average, {} of {} seeds.\n", ordering.text,
                        ordering.shows() ? "shows" : "does **not** show", ordering.mean_gain,
                        ordering.num_showing, ordering.num_pairs);
  }
  return text;
}

}  // namespace

std::vector<StudyOrdering> study_orderings(const StudyResult& result) {
  std::vector<StudyOrdering> orderings;
  const std::vector<std::int64_t> experts = moe_models(result);
  if (has_model(result, 0)) {
    for (const std::int64_t e : experts)
      orderings.push_back(compare(fmt::format("E = {} is above dense", e), figures(result, e, top1),
                                  figures(result, 0, top1)));
  }
  if (experts.size() >= 2) {
    orderings.push_back(compare(fmt::format("E = {} is above E = {}", experts.back(), experts.front()),
                                figures(result, experts.back(), top1),
                                figures(result, experts.front(), top1)));
  }
  for (const std::int64_t e : experts) {
    const auto at_half = [&](bool prioritized) {
      return figures(result, e, [&](const StudyRun& run) {
        return routed(run, {.capacity_factor = 0.5, .batch_prioritized = prioritized});
      });
    };
    orderings.push_back(
        compare(fmt::format("E = {}, f = 0.5: batch-prioritized routing is above token order", e),
                at_half(true), at_half(false)));
  }
  return orderings;
}

std::string study_markdown(const StudyResult& result) {
  const StudySettings& settings = result.settings;
  double train_s = 0;
  double evaluate_s = 0;
  for (const StudyRun& run : result.runs) {
    train_s = std::max(train_s, run.train_s);
    evaluate_s = std::max(evaluate_s, run.evaluate_s);
  }
  std::string text = fmt::format(
      "{} steps of {} images in {} on {}; {} classes, {} training and {} validation images; learning rate "
      "{}, "
      "{} gate.\n{:.0f} s in all: {:.1f} rendering, {:.0f} finding the number of steps, {:.0f} training, "
      "{:.0f} evaluation.\n\n",
      result.steps, settings.batch_size, name(settings.dtype), settings.device, settings.num_classes,
      settings.train_images, settings.validation_images, settings.learning_rate, settings.gate,
      result.total_s, result.render_s, result.calibrate_s, train_s, evaluate_s);
  text += models_table(result) + "\n";
  if (!moe_models(result).empty()) text += routings_table(result) + "\n";
  return text + orderings_list(result);
}

nlohmann::ordered_json to_json(const StudyResult& result) {
  const StudySettings& settings = result.settings;
  nlohmann::ordered_json json = {{"device", settings.device},
                                 {"dtype", name(settings.dtype)},
                                 {"steps", result.steps},
                                 {"batch_size", settings.batch_size},
                                 {"embed_dim", settings.embed_dim},
                                 {"depths", settings.depths},
                                 {"mlp_ratio", settings.mlp_ratio},
                                 {"gate", settings.gate},
                                 {"loss_weight", settings.loss_weight},
                                 {"learning_rate", settings.learning_rate},
                                 {"num_classes", settings.num_classes},
                                 {"nuisance", settings.nuisance},
                                 {"train_images", settings.train_images},
                                 {"validation_images", settings.validation_images},
                                 {"render_s", result.render_s},
                                 {"calibrate_s", result.calibrate_s},
                                 {"total_s", result.total_s}};
  for (const StudyRun& run : result.runs) {
    nlohmann::ordered_json one = {{"experts", run.experts},
                                  {"seed", run.seed},
                                  {"top1", run.top1},
                                  {"train_s", run.train_s},
                                  {"evaluate_s", run.evaluate_s}};
    for (const RoutedAccuracy& accuracy : run.routed) {
      one["routed"].push_back({{"capacity_factor", accuracy.routing.capacity_factor},
                               {"batch_prioritized", accuracy.routing.batch_prioritized},
                               {"top1", accuracy.top1}});
    }
    for (const CurvePoint& point : run.curve)
      one["curve"].push_back({{"step", point.step}, {"cross_entropy", point.cross_entropy}});
    json["runs"].push_back(std::move(one));
  }
  for (const StudyOrdering& ordering : study_orderings(result)) {
    json["orderings"].push_back({{"text", ordering.text},
                                 {"shows", ordering.shows()},
                                 {"mean_gain_points", ordering.mean_gain},
                                 {"seeds", ordering.num_pairs},
                                 {"seeds_showing", ordering.num_showing}});
  }
  return json;
}

}  // namespace flex::bench
