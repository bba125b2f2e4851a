#include "cli/prediction_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/table.h"
#include "costmodel/plan_pair.h"

namespace flex::cli {
namespace {

std::string pair_text(const PlanPrediction& p) { return to_string(PlanPair{p.forward, p.backward}); }

std::string memory_text(std::int64_t bytes, bool fits) {
  return fmt::format("{:.1f} GiB{}", static_cast<double>(bytes) / kBytesPerGiB, fits ? "" : ", too much");
}

constexpr std::string_view kNotes =
    "band: 68% of measurements are to be within it. Shares are of the critical path. Memory is the peak of "
    "one "
    "rank, without an optimizer's states.\n";

// What each stream does: what overlap hides does not show on the critical path.
std::string stream_text(const PredictionRow& row) {
  const double total = row.plans.front().total_us;
  std::string text;
  for (const StreamKind stream : {StreamKind::kCompute, StreamKind::kCommunication}) {
    const StreamUse& use = row.streams[static_cast<std::size_t>(stream)];
    text += fmt::format("{} stream: busy {:.0f}%", name(stream), 100 * use.busy_us / total);
    for (int cause = 0; cause < kNumIdleCauses; ++cause) {
      const double idle = use.idle(static_cast<IdleCause>(cause));
      if (idle < 0.005 * total) continue;
      const bool end = static_cast<IdleCause>(cause) == IdleCause::kEnd;
      text += fmt::format(", {:.0f}% {}{}", 100 * idle / total, end ? "done" : "waits for ",
                          end ? "" : std::string(name(static_cast<IdleCause>(cause))));
    }
    text += "\n";
  }
  return text;
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
                 const std::optional<BaselinePrediction>& baseline) {
  cells.push_back(format_us(p.total_us));
  cells.push_back(p.total_us > 0 ? fmt::format("± {:.0f}%", 100 * p.error_us / p.total_us) : "");
  for (const double us : p.class_us) {
    cells.push_back(p.total_us > 0 ? fmt::format("{:.0f}%", 100 * us / p.total_us) : "");
  }
  cells.push_back(memory_text(p.memory_bytes, p.fits));
  if (baseline) cells.push_back(fmt::format("{:.2f} x", baseline->total_us / p.total_us));
}

nlohmann::ordered_json plan_json(const PlanPrediction& p, const std::optional<BaselinePrediction>& baseline) {
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
  if (baseline) json["speedup"] = baseline->total_us / p.total_us;
  return json;
}

}  // namespace

std::string calibration_text(const Calibration& calibration, const Cluster& cluster) {
  const char* note = "";
  if (calibration.cluster != cluster.name) {
    note = " (of another cluster: the band does not count that)";
  } else if (!calibration.fitted) {
    note = "; the band is a guess";
  }
  return fmt::format("parameters of {}: {}{}\n", calibration.cluster, calibration.description, note);
}

std::string prediction_table(const PredictionRow& row) {
  Table table(with_shares({{"plan", Align::kLeft}}, row.baseline.has_value()));
  for (const PlanPrediction& p : row.plans) {
    std::vector<std::string> cells = {pair_text(p)};
    add_figures(cells, p, row.baseline);
    table.add(std::move(cells));
  }
  std::string text = table.text();
  text += kNotes;
  if (row.plans.size() == 1) text += stream_text(row);
  if (row.baseline) {
    text +=
        fmt::format("Fairseq's formulation: {}, {} with AdamW's states\n", format_us(row.baseline->total_us),
                    memory_text(row.baseline->memory_bytes, row.baseline->fits));
  }
  return text;
}

std::string scale_table(const std::vector<PredictionRow>& rows) {
  const bool baseline = !rows.empty() && rows.front().baseline.has_value();
  Table table(with_shares({{"ranks"}, {"nodes"}, {"experts"}, {"plan", Align::kLeft}}, baseline));
  for (const PredictionRow& row : rows) {
    const PlanPrediction& p = row.plans.front();
    std::vector<std::string> cells = {fmt::format("{}", row.cluster.world()),
                                      fmt::format("{}", row.cluster.nodes),
                                      fmt::format("{}", row.workload.num_experts), pair_text(p)};
    add_figures(cells, p, row.baseline);
    table.add(std::move(cells));
  }
  return table.text() + std::string(kNotes);
}

nlohmann::ordered_json predictions_json(nlohmann::ordered_json inputs,
                                        const std::vector<PredictionRow>& rows) {
  nlohmann::ordered_json sizes = nlohmann::ordered_json::array();
  for (const PredictionRow& row : rows) {
    nlohmann::ordered_json plans = nlohmann::ordered_json::array();
    for (const PlanPrediction& p : row.plans) plans.push_back(plan_json(p, row.baseline));
    nlohmann::ordered_json streams;
    for (const StreamKind stream : {StreamKind::kCompute, StreamKind::kCommunication}) {
      const StreamUse& use = row.streams[static_cast<std::size_t>(stream)];
      nlohmann::ordered_json idle;
      for (int cause = 0; cause < kNumIdleCauses; ++cause) {
        idle[std::string(name(static_cast<IdleCause>(cause)))] = use.idle(static_cast<IdleCause>(cause));
      }
      streams[std::string(name(stream))] = {{"busy_us", use.busy_us}, {"idle_us", idle}};
    }
    nlohmann::ordered_json size = {{"ranks", row.cluster.world()},
                                   {"nodes", row.cluster.nodes},
                                   {"experts", row.workload.num_experts},
                                   {"capacity", row.workload.capacity}};
    if (row.baseline) {
      size["fairseq_us"] = row.baseline->total_us;
      size["fairseq_memory_bytes"] = row.baseline->memory_bytes;
      size["fairseq_fits"] = row.baseline->fits;
    }
    size["plans"] = plans;
    size["streams_of_first_plan"] = streams;
    sizes.push_back(std::move(size));
  }
  inputs["sizes"] = sizes;
  return inputs;
}

}  // namespace flex::cli
