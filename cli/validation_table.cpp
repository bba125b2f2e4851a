#include "cli/validation_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/table.h"
#include "costmodel/accuracy.h"

namespace flex::cli {
namespace {

std::string percent(double fraction) { return fmt::format("{:.1f}%", 100 * fraction); }

std::vector<PassPrediction> passes_of(const ValidationReport& report, const ShapeOrder& order) {
  std::vector<PassPrediction> passes;
  std::ranges::copy_if(report.passes, std::back_inserter(passes), [&](const PassPrediction& prediction) {
    return prediction.measured.pair.shape == order.shape && prediction.measured.pass == order.pass;
  });
  return passes;
}

std::string order_table(const ValidationReport& report) {
  Table table({{"layer", Align::kLeft},
               {"pass", Align::kLeft},
               {"plans"},
               {"fastest"},
               {"slowest"},
               {"median error"},
               {"tau-b"},
               {"regret"}});
  for (const ShapeOrder& order : report.orders) {
    std::vector<double> errors;
    std::vector<double> times_us;
    for (const PassPrediction& prediction : passes_of(report, order)) {
      errors.push_back(prediction.relative_error());
      times_us.push_back(prediction.measured.median_us);
    }
    const auto [fastest, slowest] = std::ranges::minmax(times_us);
    table.add({to_string(order.shape), std::string(name(order.pass)), fmt::format("{}", order.num_plans),
               format_us(fastest), format_us(slowest), percent(median(errors)),
               order.tau ? fmt::format("{:.2f}", *order.tau) : "equal", percent(order.regret)});
  }
  return table.text();
}

std::string kind_table(const ValidationReport& report) {
  Table table({{"operation, alone", Align::kLeft}, {"share"}, {"median error"}});
  for (const KindError& kind : report.kinds) {
    table.add({std::string(name(kind.kind)), percent(kind.share), percent(kind.median_error)});
  }
  return table.text();
}

nlohmann::ordered_json to_json(const PassPrediction& prediction) {
  const MeasuredPass& measured = prediction.measured;
  return {{"layer", to_string(measured.pair.shape)},
          {"plan", to_string(measured.pair.plan)},
          {"pass", name(measured.pass)},
          {"measured_us", measured.median_us},
          {"spread_us", measured.spread_us},
          {"predicted_us", prediction.predicted_us},
          {"band_us", prediction.band_us}};
}

}  // namespace

std::string validation_table(const ValidationReport& report) {
  return order_table(report) + "\n" + kind_table(report) +
         fmt::format(
             "\n{} passes: median absolute error {} (forward {}, backward {}), {} within the model's own "
             "band\n"
             "Kendall's tau-b of the plans of one layer {:.2f} on average, regret of the model's choice {} "
             "on "
             "average and {} at most\n",
             report.passes.size(), percent(report.median_error), percent(report.forward_error),
             percent(report.backward_error), percent(report.within_band), report.mean_tau,
             percent(report.mean_regret), percent(report.max_regret));
}

nlohmann::ordered_json validation_json(const ValidationReport& report) {
  nlohmann::ordered_json json = {
      {"median_error", report.median_error},     {"forward_error", report.forward_error},
      {"backward_error", report.backward_error}, {"mean_tau_b", report.mean_tau},
      {"mean_regret", report.mean_regret},       {"max_regret", report.max_regret},
      {"within_band", report.within_band}};
  json["layers"] = nlohmann::ordered_json::array();
  for (const ShapeOrder& order : report.orders) {
    nlohmann::ordered_json row = {{"layer", to_string(order.shape)},
                                  {"pass", name(order.pass)},
                                  {"plans", order.num_plans},
                                  {"regret", order.regret}};
    if (order.tau) row["tau_b"] = *order.tau;
    json["layers"].push_back(std::move(row));
  }
  json["operations"] = nlohmann::ordered_json::array();
  for (const KindError& kind : report.kinds) {
    json["operations"].push_back(
        {{"operation", name(kind.kind)}, {"share", kind.share}, {"median_error", kind.median_error}});
  }
  json["passes"] = nlohmann::ordered_json::array();
  for (const PassPrediction& prediction : report.passes) json["passes"].push_back(to_json(prediction));
  return json;
}

}  // namespace flex::cli
