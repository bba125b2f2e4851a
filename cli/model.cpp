#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/table.h"
#include "models/model_summary.h"
#include "models/training_config.h"

// flexmoe model show CONFIG.json [--inference] [--json]
// Prints a model's layers with their parameters and multiply-accumulates. Needs no GPU.
namespace flex::cli {
namespace {

struct Options {
  std::string config;
  bool inference = false;
  bool json = false;
};

std::string thousands(std::int64_t count) {
  constexpr std::int64_t kGroup = 1000;
  return count < kGroup ? fmt::format("{}", count)
                        : fmt::format("{},{:03}", thousands(count / kGroup), count % kGroup);
}

void print_table(const ModelConfig& config, const Routing& routing, const ModelSummary& summary) {
  Table table(
      {{"layer", Align::kLeft}, {"map"}, {"channels"}, {"experts"}, {"parameters"}, {"active"}, {"MMAC"}});
  for (const LayerFigures& layer : summary.layers) {
    table.add({layer.name, fmt::format("{} x {}", layer.map.rows, layer.map.columns),
               fmt::format("{}", layer.dim), layer.is_moe ? fmt::format("{}", config.moe.num_experts) : "",
               thousands(layer.parameters), thousands(layer.active_parameters),
               fmt::format("{:.2f}", layer.multiply_accumulates * 1e-6)});
  }
  fmt::print("{}: {} blocks, {} x {}, window {}", config.name, name(config.block), config.image_size,
             config.image_size, config.window_size);
  if (!config.moe.blocks.empty())
    fmt::print(", {} experts, k = {}, f = {}", config.moe.num_experts, routing.top_k,
               routing.capacity_factor);
  fmt::print("\n\n{}\nparameters {:.1f} M, active {:.1f} M, {:.2f} GMAC an image\n", table.text(),
             static_cast<double>(summary.parameters()) * 1e-6,
             static_cast<double>(summary.active_parameters()) * 1e-6, summary.multiply_accumulates() * 1e-9);
}

void print_json(const ModelConfig& config, const ModelSummary& summary) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerFigures& layer : summary.layers) {
    layers.push_back({{"name", layer.name},
                      {"rows", layer.map.rows},
                      {"columns", layer.map.columns},
                      {"channels", layer.dim},
                      {"is_moe", layer.is_moe},
                      {"parameters", layer.parameters},
                      {"active_parameters", layer.active_parameters},
                      {"multiply_accumulates", layer.multiply_accumulates}});
  }
  const nlohmann::ordered_json json = {{"name", config.name},
                                       {"parameters", summary.parameters()},
                                       {"active_parameters", summary.active_parameters()},
                                       {"multiply_accumulates", summary.multiply_accumulates()},
                                       {"layers", layers}};
  fmt::print("{}\n", json.dump(2));
}

}  // namespace

void add_model(CLI::App& app) {
  CLI::App* command = app.add_subcommand("model", "Show what a model is made of");
  command->require_subcommand(1);
  CLI::App* show = command->add_subcommand("show", "Print layers, parameters and multiply-accumulates");
  auto options = std::make_shared<Options>();
  show->add_option("config", options->config, "A model's .json file")->required()->check(CLI::ExistingFile);
  show->add_flag("--inference", options->inference, "With the k and f of inference instead of training");
  show->add_flag("--json", options->json, "Print JSON");
  show->footer("Example:\n  flexmoe model show models/configs/swinv2_moe_base_e32.json --inference");
  show->callback([options] {
    const ModelConfig config = read_model_file(options->config).model;
    const Routing& routing = options->inference ? config.moe.inference : config.moe.training;
    const ModelSummary summary = summarize(config, routing);
    options->json ? print_json(config, summary) : print_table(config, routing, summary);
  });
}

}  // namespace flex::cli
