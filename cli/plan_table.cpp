#include "cli/plan_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace flex::cli {
namespace {}  // namespace

std::string plan_table(const std::vector<PlanMeasurement>& measurements, double tokens) {
  Table table({{"plan", Align::kLeft},
               {"median"},
               {"quartiles"},
               {"tokens/s"},
               {"FLOP/s"},
               {"moved per rank"},
               {"by formula", Align::kLeft},
               {"max/mean"},
               {"dropped"},
               {"loss"}});
  std::string notes;
  for (const PlanMeasurement& m : measurements) {
    if (!m.illegal.empty()) {
      notes += fmt::format("{} cannot run: {}\n", to_string(m.plans), m.illegal);
      continue;
    }
    const std::string formula =
        m.moved_bytes == m.expected_bytes ? "equal" : fmt::format("{:+} B", m.moved_bytes - m.expected_bytes);
    const double dropped =
        m.routed == 0 ? 0 : 100.0 * static_cast<double>(m.dropped) / static_cast<double>(m.routed);
    table.add({to_string(m.plans), format_us(m.median_us),
               fmt::format("{} .. {}", format_us(m.quartile_us[0]), format_us(m.quartile_us[1])),
               format_count(tokens / m.median_us * 1e6), format_count(m.flops / m.median_us * 1e6),
               format_bytes(static_cast<double>(m.moved_bytes)), formula,
               fmt::format("{:.2f}", m.max_over_mean), fmt::format("{:.1f}%", dropped),
               fmt::format("{:.4f}", m.loss)});
  }
  return table.text() + notes;
}

std::string operation_table(const PlanMeasurement& measurement,
                            const std::optional<DeviceCeilings>& ceilings) {
  std::vector<Column> columns = {{"operation", Align::kLeft}, {"times"}, {"median"}, {"share"}, {"FLOP/s"}};
  if (ceilings) columns.push_back({"of matrix"});
  columns.push_back({"bytes/s"});
  if (ceilings) columns.push_back({"of copy"});
  Table table(columns);
  double total = 0;
  for (const OperationTime& operation : measurement.operations) total += operation.us;
  const auto percent = [](double part, double whole) {
    return whole > 0 && part > 0 ? fmt::format("{:.1f}%", 100 * part / whole) : "";
  };
  for (const OperationTime& operation : measurement.operations) {
    const double flops_per_s = operation.flops / operation.us * 1e6;
    const double bytes_per_s = operation.bytes / operation.us * 1e6;
    std::vector<std::string> row = {operation.name, fmt::format("{}", operation.count),
                                    format_us(operation.us), percent(operation.us, total),
                                    flops_per_s > 0 ? format_count(flops_per_s) : ""};
    if (ceilings) row.push_back(percent(flops_per_s, ceilings->matrix_TFLOPs * 1e12));
    row.push_back(bytes_per_s > 0 ? format_bytes(bytes_per_s) : "");
    if (ceilings) row.push_back(percent(bytes_per_s, ceilings->copy_GBps * 1e9));
    table.add(row);
  }
  std::string text =
      table.text() + fmt::format("sum over both streams {}, activations and scratch held {}\n",
                                 format_us(total),
                                 format_bytes(static_cast<double>(measurement.activation_bytes)));
  if (ceilings) {
    text += fmt::format("ceilings measured here: copy {:.0f} GB/s, matrix product {:.0f} TFLOP/s (8192^3)\n",
                        ceilings->copy_GBps, ceilings->matrix_TFLOPs);
  }
  return text;
}

nlohmann::ordered_json operations_json(const std::vector<OperationTime>& operations) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const OperationTime& operation : operations) {
    rows.push_back({{"operation", operation.name},
                    {"times", operation.count},
                    {"median_us", operation.us},
                    {"flops", operation.flops},
                    {"bytes", operation.bytes}});
  }
  return rows;
}

nlohmann::ordered_json plan_json(const std::vector<PlanMeasurement>& measurements, double tokens) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const PlanMeasurement& m : measurements) {
    nlohmann::ordered_json row = {{"plan", to_string(m.plans.forward)},
                                  {"backward_plan", to_string(m.plans.backward)}};
    if (!m.illegal.empty()) {
      row["illegal"] = m.illegal;
    } else {
      row.update({{"median_us", m.median_us},
                  {"first_quartile_us", m.quartile_us[0]},
                  {"third_quartile_us", m.quartile_us[1]},
                  {"tokens_per_s", tokens / m.median_us * 1e6},
                  {"TFLOPs", m.flops / m.median_us * 1e-6},
                  {"moved_bytes", m.moved_bytes},
                  {"expected_bytes", m.expected_bytes},
                  {"capacity", m.capacity},
                  {"max_over_mean", m.max_over_mean},
                  {"dropped", m.dropped},
                  {"routed", m.routed},
                  {"loss", m.loss},
                  {"output_error", m.output_error},
                  {"activation_bytes", m.activation_bytes},
                  {"operations", operations_json(m.operations)}});
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace flex::cli
