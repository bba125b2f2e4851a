#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/layer_options.h"
#include "cli/trace_commands.h"
#include "traces/generate.h"
#include "traces/import_megatron.h"
#include "traces/reshard.h"

// flexmoe trace generate|import|reshard
namespace flex::cli {
namespace {

/// Of every trace that is made.
struct MakeOptions {
  std::string output;
  std::string model;
  std::string hardware;
  LayerOptions layer;
  int ranks = 8;
  std::optional<int> ranks_per_node;
  std::uint64_t seed = 1;

  [[nodiscard]] int ranks_on_a_node(int world) const {
    constexpr int kUsual = 8;
    return ranks_per_node.value_or(std::min(world, kUsual));
  }
};

TraceLayer layer_of(const LayerOptions& options, int world) {
  TraceLayer layer{.workload = workload_of(options.config(), world),
                   .capacity_factor = options.capacity_factor};
  layer.workload.num_tokens = options.tokens;
  layer.workload.top_k = options.top_k;
  layer.workload.dropless = options.capacity_factor <= 0;
  return layer;
}

void add_ranks_options(CLI::App& command, MakeOptions& options) {
  command.add_option("--ranks", options.ranks, "Ranks")
      ->check(CLI::Range(1, static_cast<int>(kMaxTraceWorld)))
      ->capture_default_str();
  command
      .add_option("--ranks-per-node", options.ranks_per_node, "On each node; otherwise 8, or all if fewer")
      ->check(positive_number());
  command.add_option("--seed", options.seed, "Of what is random")->capture_default_str();
}

void add_texts(CLI::App& command, MakeOptions& options) {
  command.add_option("--model", options.model, "Name of the model, for people")->type_name("NAME");
  command.add_option("--hardware", options.hardware, "What it ran on, for people")->type_name("NAME");
}

struct GenerateCommand {
  MakeOptions make;
  std::string workload = "W0";
  int layers = 1;
  std::int64_t steps = 32;
  bool forward_only = false;
};

void generate_trace(const GenerateCommand& command) {
  const MakeOptions& make = command.make;
  const TraceLayer layer = layer_of(make.layer, make.ranks);
  GenerateOptions options{
      .imbalance = *parse_imbalance_workload(command.workload),
      .seed = make.seed,
      .num_steps = command.steps,
      .backward = !command.forward_only,
      .header = {.model = make.model.empty() ? "generated" : make.model,
                 .hardware = make.hardware,
                 .world = make.ranks,
                 .ranks_per_node = make.ranks_on_a_node(make.ranks),
                 .layers = std::vector<TraceLayer>(static_cast<std::size_t>(command.layers), layer)}};
  options.header = generated_header(options);
  const Interrupt interrupt;
  TraceOutput output(open_atomic(make.output), options.header);
  generate(options, [&](const TraceRecord& record) {
    Interrupt::throw_if_requested();
    output.add(record);
  });
  finish_output(output, make.output);
}

void add_generate(CLI::App& trace) {
  CLI::App* command = trace.add_subcommand("generate", "Make a trace of a named imbalance");
  auto options = std::make_shared<GenerateCommand>();
  std::string names;
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    const auto imbalance = static_cast<ImbalanceWorkload>(i);
    names += fmt::format("\n  {:5}  {}", name(imbalance), description(imbalance));
  }
  command->add_option("--imbalance,--workload", options->workload, "Its name, see below")
      ->type_name("NAME")
      ->check([](const std::string& text) {
        return parse_imbalance_workload(text) ? std::string()
                                              : fmt::format("there is no workload '{}'", text);
      })
      ->capture_default_str();
  command->add_option("--steps", options->steps, "Iterations")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--layers", options->layers, "MoE layers, all of the same shape")
      ->check(CLI::Range(1, static_cast<int>(kMaxTraceLayers)))
      ->capture_default_str();
  command->add_flag("--forward-only", options->forward_only, "No backward records, as in inference");
  add_ranks_options(*command, options->make);
  add_layer_options(*command, options->make.layer);
  add_texts(*command, options->make);
  add_output_option(*command, options->make.output);
  command->footer(
      "Workloads:" + names +
      "\nExample:\n  flexmoe trace generate --imbalance W6 --ranks 64 --experts 64 --capacity-factor 0 "
      "--steps 100 -o w6.jsonl.gz");
  command->callback([options] { generate_trace(*options); });
}

struct ImportCommand {
  MakeOptions make;
  std::vector<std::string> paths;
};

void import_trace(const ImportCommand& command) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : command.paths) {
    for (const std::filesystem::path& file : router_trace_files(path)) files.push_back(file);
  }
  const MakeOptions& make = command.make;
  MegatronImport import(files, {.layer = layer_of(make.layer, 1),
                                .model = make.model.empty() ? "imported" : make.model,
                                .hardware = make.hardware,
                                .ranks_per_node = make.ranks_on_a_node(static_cast<int>(files.size()))});
  const Interrupt interrupt;
  TraceOutput output(open_atomic(make.output), import.header());
  TraceRecord record;
  while (import.next(record)) {
    Interrupt::throw_if_requested();
    output.add(record);
  }
  finish_output(output, make.output);
}

void add_import(CLI::App& trace) {
  CLI::App* command =
      trace.add_subcommand("import", "Take over router traces of Megatron-Core, a JSONL file for each rank");
  auto options = std::make_shared<ImportCommand>();
  command->add_option("paths", options->paths, "Files of all ranks, or a folder that holds them")
      ->required()
      ->type_name("PATH");
  command
      ->add_option("--ranks-per-node", options->make.ranks_per_node,
                   "On each node; otherwise 8, or all if fewer")
      ->check(positive_number());
  add_layer_options(*command, options->make.layer);
  // The files say them.
  for (const char* name : {"--tokens", "--top-k", "--batch-prioritized"}) {
    command->remove_option(command->get_option(name));
  }
  for (const char* name : {"--experts", "--model-dim", "--hidden-dim"}) command->get_option(name)->required();
  add_texts(*command, options->make);
  add_output_option(*command, options->make.output);
  command->footer(
      "Example:\n  flexmoe trace import router_trace/ --experts 64 --model-dim 2048 --hidden-dim 8192 "
      "--dtype bf16 --capacity-factor 0 -o run.jsonl.gz");
  command->callback([options] { import_trace(*options); });
}

struct ReshardCommand {
  MakeOptions make;
  std::string file;
  std::string policy = "split";
};

void reshard_trace(const ReshardCommand& command) {
  const MakeOptions& make = command.make;
  TraceReader reader(command.file, TraceDamage::kStop);
  const Resharder resharder(reader.header(), {.world = make.ranks,
                                              .ranks_per_node = make.ranks_on_a_node(make.ranks),
                                              .policy = *parse_reshard_policy(command.policy),
                                              .seed = make.seed,
                                              .file = command.file});
  const Interrupt interrupt;
  TraceOutput output(open_atomic(make.output), resharder.header());
  TraceRecord record;
  while (reader.next(record)) {
    Interrupt::throw_if_requested();
    output.add(resharder.reshard(record));
  }
  warn_of_damage(reader);
  finish_output(output, make.output, reader.trailer() ? reader.trailer()->num_dropped : 0);
}

void add_reshard(CLI::App& trace) {
  CLI::App* command = trace.add_subcommand("reshard", "Lay the tokens of a trace on another number of ranks");
  auto options = std::make_shared<ReshardCommand>();
  command->add_option("file", options->file, "A trace")->required()->type_name("FILE");
  add_ranks_options(*command, options->make);
  command->get_option("--ranks")->required();
  command
      ->add_option("--policy", options->policy,
                   "split: the same tokens divided; tile: ranks repeated; resample: drawn from the mean")
      ->check(CLI::IsMember({"split", "tile", "resample"}))
      ->capture_default_str();
  add_output_option(*command, options->make.output);
  command->footer(
      "Example:\n  flexmoe trace reshard run.jsonl.gz --ranks 512 --policy tile -o run512.jsonl.gz");
  command->callback([options] { reshard_trace(*options); });
}

}  // namespace

void add_trace_making(CLI::App& trace) {
  add_generate(trace);
  add_import(trace);
  add_reshard(trace);
}

}  // namespace flex::cli
