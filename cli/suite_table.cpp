#include "cli/suite_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/plan_table.h"
#include "cli/table.h"

namespace flex::cli {
namespace {

std::string ms(double us) { return fmt::format("{:.3f}", us * 1e-3); }
std::string ratio(double us, double floor_us) { return fmt::format("{:.2f}", us / floor_us); }

nlohmann::ordered_json suite_json(const SuiteResult& result) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const SuiteRow& row : result.rows) {
    const SuiteShape& s = row.shape;
    rows.push_back({{"tokens", s.tokens},
                    {"model_dim", s.model_dim},
                    {"hidden_dim", s.hidden_dim},
                    {"experts", s.experts},
                    {"top_k", s.top_k},
                    {"capacity_factor", s.capacity_factor},
                    {"products_us", row.products_us},
                    {"forward_us", row.forward_us},
                    {"forward_floor_us", row.forward_floor_us},
                    {"training_us", row.training_us},
                    {"training_floor_us", row.training_floor_us},
                    {"forward_graph_us", row.forward_graph_us},
                    {"training_graph_us", row.training_graph_us},
                    {"output_error", row.output_error},
                    {"operations", operations_json(row.operations)}});
  }
  return {{"dtype", name(result.dtype)},
          {"copy_GBps", result.ceilings.copy_GBps},
          {"matrix_TFLOPs", result.ceilings.matrix_TFLOPs},
          {"rows", rows}};
}

}  // namespace

void print_suite(const SuiteResult& result, bool json) {
  if (json) {
    fmt::print("{}\n", suite_json(result).dump(2));
    return;
  }
  Table table({{"T"},
               {"M"},
               {"H"},
               {"E"},
               {"k"},
               {"f"},
               {"products ms"},
               {"forward ms"},
               {"of floor"},
               {"Tutel / it"},
               {"grouped / it"},
               {"training ms"},
               {"of floor"},
               {"Tutel / it"},
               {"graphs: forward"},
               {"training"},
               {"error"}});
  for (const SuiteRow& row : result.rows) {
    const SuiteShape& s = row.shape;
    table.add({fmt::format("{}", s.tokens), fmt::format("{}", s.model_dim), fmt::format("{}", s.hidden_dim),
               fmt::format("{}", s.experts), fmt::format("{}", s.top_k), fmt::format("{}", s.capacity_factor),
               ms(row.products_us), ms(row.forward_us), ratio(row.forward_us, row.forward_floor_us),
               ratio(s.peer_forward_ms * 1e3, row.forward_us),
               s.grouped_forward_ms ? ratio(*s.grouped_forward_ms * 1e3, row.forward_us) : "",
               ms(row.training_us), ratio(row.training_us, row.training_floor_us),
               ratio(s.peer_training_ms * 1e3, row.training_us), ms(row.forward_graph_us),
               ms(row.training_graph_us), fmt::format("{:.1e}", row.output_error)});
  }
  fmt::print("{}, copy {:.0f} GB/s, matrix product {:.0f} TFLOP/s (8192^3)\n\n{}", name(result.dtype),
             result.ceilings.copy_GBps, result.ceilings.matrix_TFLOPs, table.text());
}

void print_switching(const std::vector<SwitchingCost>& costs, bool json) {
  if (json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const SwitchingCost& cost : costs) {
      rows.push_back({{"tokens", cost.tokens},
                      {"first", to_string(cost.first.forward)},
                      {"second", to_string(cost.second.forward)},
                      {"first_us", cost.first_us},
                      {"second_us", cost.second_us},
                      {"alternating_us", cost.alternating_us},
                      {"overhead_us", cost.overhead_us}});
    }
    fmt::print("{}\n", rows.dump(2));
    return;
  }
  Table table({{"T"},
               {"first", Align::kLeft},
               {"us"},
               {"second", Align::kLeft},
               {"us"},
               {"in turn us"},
               {"a switch us"}});
  for (const SwitchingCost& cost : costs) {
    table.add({fmt::format("{}", cost.tokens), to_string(cost.first.forward),
               fmt::format("{:.1f}", cost.first_us), to_string(cost.second.forward),
               fmt::format("{:.1f}", cost.second_us), fmt::format("{:.1f}", cost.alternating_us),
               fmt::format("{:+.1f}", cost.overhead_us)});
  }
  fmt::print("{}", table.text());
}

namespace {

nlohmann::ordered_json host_json(const ProfilingHostTimes& host) {
  return {{"queueing_us", host.queueing_us},           {"switching_on_us", host.switching_on_us},
          {"switching_off_us", host.switching_off_us}, {"taking_us", host.taking_us},
          {"iterations_late", host.iterations_late},   {"switching_on_quiet_us", host.switching_on_quiet_us},
          {"reading_quiet_us", host.reading_quiet_us}};
}

std::string host_table(const ProfilingHostTimes& host) {
  Table table({{"what the host needs", Align::kLeft}, {"us"}});
  const auto add = [&](std::string what, double us) {
    table.add({std::move(what), fmt::format("{:.1f}", us)});
  };
  add("to queue an iteration", host.queueing_us);
  add("a sampled one: to switch records on", host.switching_on_us);
  add("to switch them off", host.switching_off_us);
  add(fmt::format("to take them, {:.1f} iterations later", host.iterations_late), host.taking_us);
  add("with a quiet device: to switch them on", host.switching_on_quiet_us);
  add("to read them", host.reading_quiet_us);
  return table.text();
}

}  // namespace

void print_profiling(const ProfilingCosts& costs, bool json) {
  if (json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const ProfilingCost& cost : costs.costs) {
      rows.push_back({{"watching", name(cost.watching)},
                      {"iteration_us", cost.iteration_us},
                      {"ratio", cost.ratio},
                      {"limit", cost.limit},
                      {"remarks", cost.remarks}});
    }
    const nlohmann::ordered_json object = {{"iterations", costs.iterations},
                                           {"cupti_loaded_before", costs.loaded_before},
                                           {"records_by_cupti", costs.records_by_cupti},
                                           {"host", host_json(costs.host)},
                                           {"costs", rows}};
    fmt::print("{}\n", object.dump(2));
    return;
  }
  Table table({{"watching", Align::kLeft}, {"iteration us"}, {"ratio"}, {"limit"}, {"", Align::kLeft}});
  for (const ProfilingCost& cost : costs.costs) {
    table.add({std::string(name(cost.watching)), fmt::format("{:.1f}", cost.iteration_us),
               fmt::format("{:.4f}", cost.ratio), cost.limit > 0 ? fmt::format("{:.2f}", cost.limit) : "",
               cost.remarks});
  }
  fmt::print("rounds of {} iterations; {}\n\n{}\n{}", costs.iterations,
             costs.loaded_before ? "CUPTI WAS LOADED before anything asked for it"
                                 : "nothing of CUPTI was loaded before it was asked for",
             table.text(), host_table(costs.host));
  if (!costs.records_by_cupti) fmt::print("CUPTI could not be used: its rows are of events\n");
}

}  // namespace flex::cli
