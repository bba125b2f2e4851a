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
                    {"operations", operations_json(row.operations)}});
  }
  return {{"dtype", name(result.dtype)},
          {"copy_GBps", result.copy_GBps},
          {"matrix_TFLOPs", result.matrix_TFLOPs},
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
               {"Tutel / it"}});
  for (const SuiteRow& row : result.rows) {
    const SuiteShape& s = row.shape;
    table.add({fmt::format("{}", s.tokens), fmt::format("{}", s.model_dim), fmt::format("{}", s.hidden_dim),
               fmt::format("{}", s.experts), fmt::format("{}", s.top_k), fmt::format("{}", s.capacity_factor),
               ms(row.products_us), ms(row.forward_us), ratio(row.forward_us, row.forward_floor_us),
               ratio(s.peer_forward_ms * 1e3, row.forward_us),
               s.grouped_forward_ms ? ratio(*s.grouped_forward_ms * 1e3, row.forward_us) : "",
               ms(row.training_us), ratio(row.training_us, row.training_floor_us),
               ratio(s.peer_training_ms * 1e3, row.training_us)});
  }
  fmt::print("{}, copy {:.0f} GB/s, matrix product {:.0f} TFLOP/s (8192^3)\n\n{}", name(result.dtype),
             result.copy_GBps, result.matrix_TFLOPs, table.text());
}

}  // namespace flex::cli
