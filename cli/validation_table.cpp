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
  Table table({{"operations of a pass, alone", Align::kLeft}, {"share"}, {"median error"}});
  for (const KindError& kind : report.kinds) {
    table.add({std::string(name(kind.kind)), percent(kind.share), percent(kind.median_error)});
  }
  return table.text();
}

std::string operation_table(const OperationReport& report) {
  Table table({{"held-out operation, alone", Align::kLeft},
               {"samples"},
               {"share"},
               {"mean error"},
               {"median"},
               {"95th pct"}});
  for (const OperationError& kind : report.kinds) {
    table.add({std::string(name(kind.kind)), fmt::format("{}", kind.num_samples), percent(kind.share),
               percent(kind.mean_error), percent(kind.median_error), percent(kind.p95_error)});
  }
  return fmt::format("{}\n{} compute operations: mean absolute error {}, median {}\n", table.text(),
                     report.num_compute, percent(report.compute_mean_error),
                     percent(report.compute_median_error));
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

std::string validation_table(const ValidationRun& run) {
  const ValidationReport& report = run.report;
  const bool has_operations = !run.operations.kinds.empty();
  return fmt::format(
      "{}\n{}{}\n{} passes: mean absolute error {}, median {} (forward {}, backward {}), {} within the "
      "model's own "
      "band\n"
      "Kendall's tau-b of the plans of one layer {:.2f} on average, regret of the model's choice {} on "
      "average and "
      "{} at most\n",
      order_table(report), kind_table(report),
      has_operations ? fmt::format("\n{}", operation_table(run.operations)) : "", report.passes.size(),
      percent(report.mean_error), percent(report.median_error), percent(report.forward_error),
      percent(report.backward_error), percent(report.within_band), report.mean_tau,
      percent(report.mean_regret), percent(report.max_regret));
}

std::string validation_summary(const std::vector<ValidationRun>& runs) {
  Table table({{"ranks"},
               {"compute operations"},
               {"mean error"},
               {"median"},
               {"passes"},
               {"mean error"},
               {"median"},
               {"tau-b"},
               {"regret, mean"},
               {"largest"}});
  for (const ValidationRun& run : runs) {
    const ValidationReport& report = run.report;
    table.add({fmt::format("{}", run.recording.world), fmt::format("{}", run.operations.num_compute),
               percent(run.operations.compute_mean_error), percent(run.operations.compute_median_error),
               fmt::format("{}", report.passes.size()), percent(report.mean_error),
               percent(report.median_error), fmt::format("{:.2f}", report.mean_tau),
               percent(report.mean_regret), percent(report.max_regret)});
  }
  table.add({"limit", "", "6.0%", "", "", "10.0%", "", "0.80", "3.0%", ""});
  return table.text();
}

nlohmann::ordered_json validation_json(const ValidationRun& run) {
  const ValidationReport& report = run.report;
  nlohmann::ordered_json json = {{"device", run.recording.device},
                                 {"ranks", run.recording.world},
                                 {"dtype", name(run.recording.dtype)},
                                 {"rounds", run.recording.rounds},
                                 {"compute_mean_error", run.operations.compute_mean_error},
                                 {"compute_median_error", run.operations.compute_median_error},
                                 {"mean_error", report.mean_error},
                                 {"median_error", report.median_error},
                                 {"forward_error", report.forward_error},
                                 {"backward_error", report.backward_error},
                                 {"mean_tau_b", report.mean_tau},
                                 {"mean_regret", report.mean_regret},
                                 {"max_regret", report.max_regret},
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
  json["held_out_operations"] = nlohmann::ordered_json::array();
  for (const OperationError& kind : run.operations.kinds) {
    json["held_out_operations"].push_back({{"operation", name(kind.kind)},
                                           {"samples", kind.num_samples},
                                           {"share", kind.share},
                                           {"mean_error", kind.mean_error},
                                           {"median_error", kind.median_error},
                                           {"p95_error", kind.p95_error}});
  }
  json["passes"] = nlohmann::ordered_json::array();
  for (const PassPrediction& prediction : report.passes) json["passes"].push_back(to_json(prediction));
  return json;
}

}  // namespace flex::cli
