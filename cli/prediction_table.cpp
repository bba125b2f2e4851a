#include "cli/prediction_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace flex::cli {
namespace {

std::string pair_text(const PlanPrediction& p) {
  return p.forward == p.backward ? to_string(p.forward)
                                 : fmt::format("{} / {}", to_string(p.forward), to_string(p.backward));
}

std::string memory_text(const PlanPrediction& p) {
  constexpr double kBytesPerGiB = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("{:.1f} GiB{}", static_cast<double>(p.memory_bytes) / kBytesPerGiB,
                     p.fits ? "" : ", too much");
}

std::vector<Column> with_shares(std::vector<Column> columns, bool baseline) {
  columns.push_back({"time"});
  columns.push_back({"band"});
  for (int c = 0; c < kNumOperationClasses; ++c) {
    columns.push_back({std::string(name(static_cast<OperationClass>(c)))});
  }
  columns.push_back({"memory"});
  if (baseline) columns.push_back({"speedup"});
  return columns;
}

void add_figures(std::vector<std::string>& cells, const PlanPrediction& p,
                 const std::optional<double>& baseline_us) {
  cells.push_back(format_us(p.total_us));
  cells.push_back(p.total_us > 0 ? fmt::format("± {:.0f}%", 100 * p.error_us / p.total_us) : "");
  for (const double us : p.class_us) {
    cells.push_back(p.total_us > 0 ? fmt::format("{:.0f}%", 100 * us / p.total_us) : "");
  }
  cells.push_back(memory_text(p));
  if (baseline_us) cells.push_back(fmt::format("{:.2f} x", *baseline_us / p.total_us));
}

nlohmann::ordered_json plan_json(const PlanPrediction& p, const std::optional<double>& baseline_us) {
  nlohmann::ordered_json classes;
  for (int c = 0; c < kNumOperationClasses; ++c) {
    classes[std::string(name(static_cast<OperationClass>(c))) + "_us"] = p.of(static_cast<OperationClass>(c));
  }
  nlohmann::ordered_json origins;
  for (int origin = 0; origin < kNumCostOrigins; ++origin) {
    origins[std::string(name(static_cast<CostOrigin>(origin))) + "_us"] =
        p.origin_us[static_cast<std::size_t>(origin)];
  }
  nlohmann::ordered_json json = {{"plan", to_string(p.forward)},   {"backward_plan", to_string(p.backward)},
                                 {"total_us", p.total_us},         {"error_us", p.error_us},
                                 {"critical_path", classes},       {"origin", origins},
                                 {"memory_bytes", p.memory_bytes}, {"fits", p.fits}};
  if (baseline_us) json["speedup"] = *baseline_us / p.total_us;
  return json;
}

}  // namespace

std::string calibration_text(const Calibration& calibration) {
  return fmt::format("parameters of {}: {}{}\n", calibration.cluster, calibration.description,
                     calibration.fitted ? "" : " (not fitted: compared with nothing, so the band is wide)");
}

std::string prediction_table(const PredictionRow& row) {
  Table table(with_shares({{"plan", Align::kLeft}}, row.baseline_us.has_value()));
  for (const PlanPrediction& p : row.plans) {
    std::vector<std::string> cells = {pair_text(p)};
    add_figures(cells, p, row.baseline_us);
    table.add(std::move(cells));
  }
  std::string text = table.text();
  text += "shares are of the critical path; memory is the peak of one rank\n";
  if (row.baseline_us) text += fmt::format("Fairseq's formulation: {}\n", format_us(*row.baseline_us));
  return text;
}

std::string scale_table(const std::vector<PredictionRow>& rows) {
  const bool baseline = !rows.empty() && rows.front().baseline_us.has_value();
  Table table(with_shares({{"ranks"}, {"nodes"}, {"experts"}, {"plan", Align::kLeft}}, baseline));
  for (const PredictionRow& row : rows) {
    const PlanPrediction& p = row.plans.front();
    std::vector<std::string> cells = {fmt::format("{}", row.cluster.world()),
                                      fmt::format("{}", row.cluster.nodes),
                                      fmt::format("{}", row.workload.num_experts), pair_text(p)};
    add_figures(cells, p, row.baseline_us);
    table.add(std::move(cells));
  }
  return table.text() + "shares are of the critical path; memory is the peak of one rank\n";
}

nlohmann::ordered_json predictions_json(const std::vector<PredictionRow>& rows,
                                        const Calibration& calibration) {
  nlohmann::ordered_json sizes = nlohmann::ordered_json::array();
  for (const PredictionRow& row : rows) {
    nlohmann::ordered_json plans = nlohmann::ordered_json::array();
    for (const PlanPrediction& p : row.plans) plans.push_back(plan_json(p, row.baseline_us));
    nlohmann::ordered_json size = {{"ranks", row.cluster.world()},
                                   {"nodes", row.cluster.nodes},
                                   {"experts", row.workload.num_experts},
                                   {"capacity", row.workload.capacity}};
    if (row.baseline_us) size["fairseq_us"] = *row.baseline_us;
    size["plans"] = plans;
    sizes.push_back(std::move(size));
  }
  return {{"cluster", rows.empty() ? "" : rows.front().cluster.name},
          {"calibration", calibration.cluster},
          {"fitted", calibration.fitted},
          {"sizes", sizes}};
}

}  // namespace flex::cli
