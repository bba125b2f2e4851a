#include "cli/trace_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/table.h"

namespace flex::cli {
namespace {

std::string origin_text(const TraceOrigin& origin) {
  std::string text(name(origin.source));
  std::string details;
  const auto add = [&](const std::string& detail) { details += (details.empty() ? "" : ", ") + detail; };
  if (!origin.workload.empty()) add(origin.workload);
  if (!origin.policy.empty()) add(origin.policy);
  if (origin.seed) add(fmt::format("seed {}", *origin.seed));
  if (origin.world) add(fmt::format("from {} ranks", *origin.world));
  if (!origin.file.empty()) add(origin.file);
  return details.empty() ? text : fmt::format("{} ({})", text, details);
}

// The most frequent first, equals in the order of their names.
std::string plans_text(const std::map<std::string, std::int64_t>& plans) {
  constexpr std::size_t kMaxShown = 3;
  std::vector<std::pair<std::string, std::int64_t>> sorted(plans.begin(), plans.end());
  std::ranges::sort(sorted, {}, [](const auto& plan) { return std::pair(-plan.second, plan.first); });
  std::string text;
  for (std::size_t i = 0; i < std::min(sorted.size(), kMaxShown); ++i) {
    text += fmt::format("{}{} x{}", i == 0 ? "" : ", ", sorted[i].first, sorted[i].second);
  }
  if (sorted.size() > kMaxShown) text += fmt::format(", {} more", sorted.size() - kMaxShown);
  return text.empty() ? "-" : text;
}

std::string spread_text(const Spread& spread, int digits) {
  return fmt::format("{:.{}f} {:.{}f} {:.{}f}", spread.min, digits, spread.median, digits, spread.max,
                     digits);
}

nlohmann::ordered_json to_json(const Spread& spread) {
  return {{"min", spread.min}, {"median", spread.median}, {"max", spread.max}};
}

nlohmann::ordered_json to_json(const PassesSummary& passes) {
  nlohmann::ordered_json json = {{"records", passes.num_records},
                                 {"plans", passes.plans},
                                 {"timed", passes.num_timed},
                                 {"duration_us", nullptr}};
  if (passes.num_timed > 0) json["duration_us"] = to_json(passes.us);
  return json;
}

nlohmann::ordered_json layer_json(const TraceLayer& layer, const LayerSummary& summary) {
  const Workload& w = layer.workload;
  return {{"num_experts", w.num_experts},
          {"num_tokens", w.num_tokens},
          {"capacity_factor", layer.capacity_factor},
          {"top_k", w.top_k},
          {"model_dim", w.model_dim},
          {"hidden_dim", w.hidden_dim},
          {"dtype", name(w.dtype)},
          {"tokens", summary.num_tokens},
          {"needed_capacity", to_json(summary.needed_capacity)},
          {"max_over_mean", to_json(summary.max_over_mean)},
          {"forward", to_json(summary.forward)},
          {"backward", to_json(summary.backward)}};
}

std::string steps_text(const TraceSummary& summary) {
  if (!summary.first_step) return "no steps";
  return fmt::format("steps {} to {}", *summary.first_step, *summary.last_step);
}

std::string layers_table(const TraceHeader& header, const TraceSummary& summary) {
  Table table({{"layer"},
               {"E"},
               {"k"},
               {"f"},
               {"M"},
               {"H"},
               {"type", Align::kLeft},
               {"tokens"},
               {"needed capacity: min median max"},
               {"max / mean: min median max"}});
  for (std::size_t i = 0; i < header.layers.size(); ++i) {
    const Workload& w = header.layers[i].workload;
    const LayerSummary& layer = summary.layers[i];
    table.add({fmt::format("{}", i), fmt::format("{}", w.num_experts), fmt::format("{}", w.top_k),
               fmt::format("{}", header.layers[i].capacity_factor), fmt::format("{}", w.model_dim),
               fmt::format("{}", w.hidden_dim), std::string(name(w.dtype)),
               fmt::format("{}", layer.num_tokens), spread_text(layer.needed_capacity, 0),
               spread_text(layer.max_over_mean, 2)});
  }
  return table.text();
}

void add_passes(std::size_t layer, Pass pass, const PassesSummary& passes, Table& table) {
  if (passes.num_records == 0) return;
  std::vector<std::string> row = {fmt::format("{}", layer), std::string(name(pass)),
                                  fmt::format("{}", passes.num_records), fmt::format("{}", passes.num_timed)};
  for (const double us : {passes.us.min, passes.us.median, passes.us.max}) {
    row.push_back(passes.num_timed > 0 ? format_us(us) : "-");
  }
  row.push_back(plans_text(passes.plans));
  table.add(std::move(row));
}

std::string passes_table(const TraceSummary& summary) {
  Table table({{"layer"},
               {"pass", Align::kLeft},
               {"records"},
               {"timed"},
               {"min"},
               {"median"},
               {"max"},
               {"plans", Align::kLeft}});
  for (std::size_t i = 0; i < summary.layers.size(); ++i) {
    add_passes(i, Pass::kForward, summary.layers[i].forward, table);
    add_passes(i, Pass::kBackward, summary.layers[i].backward, table);
  }
  return table.text();
}

}  // namespace

std::string summary_text(const std::string& file, const TraceReader& reader, const TraceSummary& summary) {
  const TraceHeader& header = reader.header();
  std::string text = fmt::format("{}: version {}", file, kTraceVersion);
  for (const TraceOrigin& origin : header.origins) text += fmt::format(", {}", origin_text(origin));
  text += fmt::format("\nmodel {}, hardware {}, {} rank(s), {} on a node\n",
                      header.model.empty() ? "-" : header.model,
                      header.hardware.empty() ? "-" : header.hardware, header.world, header.ranks_per_node);
  text += fmt::format("{} record(s), {}, {} dropped while recording\n\n", summary.num_records,
                      steps_text(summary),
                      reader.trailer() ? fmt::format("{}", reader.trailer()->num_dropped) : "unknown");
  return text + layers_table(header, summary) + "\n" + passes_table(summary);
}

nlohmann::ordered_json summary_json(const TraceReader& reader, const TraceSummary& summary) {
  const TraceHeader& header = reader.header();
  nlohmann::ordered_json json = {{"version", kTraceVersion},
                                 {"source", name(header.origins.front().source)},
                                 {"origins", nlohmann::ordered_json::array()},
                                 {"model", header.model},
                                 {"hardware", header.hardware},
                                 {"world", header.world},
                                 {"ranks_per_node", header.ranks_per_node},
                                 {"records", summary.num_records},
                                 {"dropped", nullptr},
                                 {"first_step", nullptr},
                                 {"last_step", nullptr},
                                 {"damage", nullptr},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const TraceOrigin& origin : header.origins) json["origins"].push_back(origin_text(origin));
  if (reader.trailer()) json["dropped"] = reader.trailer()->num_dropped;
  if (summary.first_step) json["first_step"] = *summary.first_step;
  if (summary.last_step) json["last_step"] = *summary.last_step;
  if (reader.damage()) json["damage"] = *reader.damage();
  for (std::size_t i = 0; i < header.layers.size(); ++i) {
    json["layers"].push_back(layer_json(header.layers[i], summary.layers[i]));
  }
  return json;
}

}  // namespace flex::cli
