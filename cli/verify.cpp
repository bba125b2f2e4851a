#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "cli/table.h"
#include "models/verify_model.h"

// flexmoe verify FILE.safetensors [--device cpu] [--json]
// Runs the layers, the training run or the model of a file of reference results and compares every output.
// Exit 1 if one is over its tolerance, or if the file holds an output that was not compared.
namespace flex::cli {
namespace {

struct Options {
  std::string file;
  std::string device = "cpu";
  bool json = false;
};

std::string error_text(const VerifiedOutput& output) {
  if (output.tolerance == 0) return output.passed() ? "equal" : "DIFFERS";
  return fmt::format("{}{:.1e}", output.passed() ? "" : "OVER ", output.error);
}

// `grad.experts.batched_fc1_w` takes too much of a line: `d fc1_w`.
std::string short_name(std::string name) {
  for (const std::string_view prefix : {"experts.", "batched_", "gate.", "cosine_"}) {
    if (const std::size_t at = name.find(prefix); at != std::string::npos) name.erase(at, prefix.size());
  }
  return name.starts_with("grad.") ? "d " + name.substr(5) : name;
}

std::vector<std::string> output_names(const std::vector<VerifiedCase>& cases) {
  std::vector<std::string> outputs;
  for (const VerifiedCase& one : cases) {
    for (const VerifiedOutput& output : one.outputs) {
      if (std::ranges::find(outputs, output.name) == outputs.end()) outputs.push_back(output.name);
    }
  }
  return outputs;
}

// A line for each case, a column for each output that any case has.
Table case_table(const std::vector<VerifiedCase>& cases, const std::vector<std::string>& outputs) {
  std::vector<Column> columns = {{"case", Align::kLeft}, {"result", Align::kLeft}};
  for (const std::string& name : outputs) columns.push_back({short_name(name)});
  Table table(columns);
  for (const VerifiedCase& one : cases) {
    std::vector<std::string> row = {one.name, one.passed() ? "ok" : "FAILED"};
    for (const std::string& name : outputs) {
      const auto found = std::ranges::find(one.outputs, name, &VerifiedOutput::name);
      row.push_back(found == one.outputs.end() ? "" : error_text(*found));
    }
    table.add(std::move(row));
  }
  return table;
}

// A line for each output: a model has hundreds.
Table output_table(const std::vector<VerifiedCase>& cases) {
  Table table({{"case", Align::kLeft}, {"output", Align::kLeft}, {"error"}, {"allowed"}});
  for (const VerifiedCase& one : cases) {
    for (const VerifiedOutput& output : one.outputs) {
      table.add({one.name, output.name, error_text(output), fmt::format("{:.1e}", output.tolerance)});
    }
  }
  return table;
}

void print_table(const std::vector<VerifiedCase>& cases) {
  constexpr std::size_t kMostColumns = 20;
  const std::vector<std::string> outputs = output_names(cases);
  const Table table = outputs.size() > kMostColumns ? output_table(cases) : case_table(cases, outputs);
  fmt::print("largest error of each output over the largest magnitude of its tensor\n\n{}\n", table.text());
  for (const VerifiedCase& one : cases) {
    for (const std::string& name : one.uncompared) fmt::print("{}: {} was not compared\n", one.name, name);
  }
  const auto passed = std::ranges::count_if(cases, &VerifiedCase::passed);
  fmt::print("{} of {} cases passed\n", passed, cases.size());
}

void print_json(const std::vector<VerifiedCase>& cases) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const VerifiedCase& one : cases) {
    nlohmann::ordered_json outputs = nlohmann::ordered_json::array();
    for (const VerifiedOutput& output : one.outputs) {
      // JSON has no infinity: null stands for a difference where equality is asked for.
      const nlohmann::ordered_json error =
          std::isfinite(output.error) ? nlohmann::ordered_json(output.error) : nlohmann::ordered_json();
      outputs.push_back({{"name", output.name},
                         {"error", error},
                         {"tolerance", output.tolerance},
                         {"passed", output.passed()}});
    }
    all.push_back(
        {{"case", one.name}, {"passed", one.passed()}, {"outputs", outputs}, {"uncompared", one.uncompared}});
  }
  fmt::print("{}\n", all.dump(2));
}

}  // namespace

void add_verify(CLI::App& app, Outcome& outcome) {
  CLI::App* command =
      app.add_subcommand("verify", "Compare a layer or a model with a file of reference results");
  auto options = std::make_shared<Options>();
  command
      ->add_option("file", options->file,
                   "A .safetensors file of layer cases, of a training run, or of a model")
      ->required()
      ->check(CLI::ExistingFile);
  command->add_option("--device", options->device, "cpu or cuda:N")
      ->type_name("DEVICE")
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  flexmoe verify tests/golden/moe_layer.safetensors\n"
      "  flexmoe verify tests/golden/swinv2_moe_micro.safetensors --device cuda:0");
  command->callback([options, &outcome] {
    const std::vector<VerifiedCase> cases = verify_file(options->file, parse_device(options->device));
    options->json ? print_json(cases) : print_table(cases);
    outcome.exit_code = std::ranges::all_of(cases, &VerifiedCase::passed) ? 0 : 1;
  });
}

}  // namespace flex::cli
