#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/checks.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/model_plans.h"
#include "cli/progress.h"
#include "cli/rank_options.h"
#include "cli/table.h"
#include "models/procedural_images.h"
#include "models/trainer.h"

// flexmoe train CONFIG.json [--ranks 4] [--policy online] [--record FILE] [--steps N] [--json]
// Trains a model on procedural images and prints its losses.
namespace flex::cli {
namespace {

struct Options {
  std::string config;
  RankOptions machine;
  ModelPlanOptions plans;
  std::int64_t steps = 0;
  std::int64_t every = 0;
  bool json = false;
};

void print_table(const std::vector<StepResult>& steps, std::int64_t every) {
  Table table({{"step"}, {"loss"}, {"cross entropy"}, {"auxiliary"}, {"gradient norm"}, {"learning rate"}});
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool is_shown = i % static_cast<std::size_t>(every) == 0 || i + 1 == steps.size();
    const StepResult& step = steps[i];
    if (!is_shown) continue;
    table.add({fmt::format("{}", i + 1), fmt::format("{:.4f}", step.loss),
               fmt::format("{:.4f}", step.cross_entropy), fmt::format("{:.4f}", step.auxiliary_loss),
               fmt::format("{:.3f}", step.gradient_norm), fmt::format("{:.2e}", step.learning_rate)});
  }
  fmt::print("{}", table.text());
}

void print_json(const std::vector<StepResult>& steps) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const StepResult& step : steps) {
    all.push_back({{"loss", step.loss},
                   {"cross_entropy", step.cross_entropy},
                   {"auxiliary_loss", step.auxiliary_loss},
                   {"gradient_norm", step.gradient_norm},
                   {"learning_rate", step.learning_rate},
                   {"loss_scale", step.loss_scale},
                   {"updated", step.updated}});
  }
  nlohmann::ordered_json json;
  json["steps"] = std::move(all);
  fmt::print("{}\n", json.dump(2));
}

void run_rank(const Options& options, const ModelFile& file, Communicator& world) {
  RankContext context(world, options.machine.usable_device(file.training.dtype),
                      {.allow_tf32 = options.machine.tf32});
  ModelPlans plans(options.plans, file, true, context);
  std::vector<StepResult> steps;
  {
    Trainer trainer(file.model, file.training, plans.source(), context);
    ProceduralImages images(file.model, file.training.dtype, trainer.local_batch(), file.training.seed,
                            context.device());
    Progress progress("train");
    for (std::int64_t step = 0; step < file.training.steps; ++step) {
      const std::int64_t first = step * file.training.batch_size + context.rank() * trainer.local_batch();
      steps.push_back(trainer.step_blocking(images.make(first)));
      if (world.rank() != 0) continue;
      progress.update(static_cast<int>(step + 1), static_cast<int>(file.training.steps),
                      fmt::format("loss {:.4f}", steps.back().loss));
    }
    plans.finish_blocking();
  }
  if (world.rank() != 0) return;
  constexpr std::int64_t kMostRows = 20;
  const std::int64_t every =
      options.every > 0 ? options.every : (file.training.steps + kMostRows - 1) / kMostRows;
  options.json ? print_json(steps) : print_table(steps, every);
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train a model on procedural images");
  auto options = std::make_shared<Options>();
  options->machine.ranks = 1;
  command->add_option("config", options->config, "A model's .json file")
      ->required()
      ->check(CLI::ExistingFile);
  add_rank_options(*command, options->machine);
  add_model_plan_options(*command, options->plans);
  command
      ->add_option("--record", options->plans.record,
                   "Write routing, plans and times to this routing trace (.jsonl, or .jsonl.gz to pack it)")
      ->type_name("FILE");
  command->add_option("--steps", options->steps, "Training steps (the configured number)")
      ->check(positive_number());
  command
      ->add_option("--every", options->every,
                   "Steps between two lines of the table (as many as make 20 lines)")
      ->check(positive_number());
  command->add_flag("--json", options->json, "Print every step as JSON");
  command->footer(
      "Examples:\n"
      "  flexmoe train models/configs/swinv2_moe_micro.json --steps 20\n"
      "  flexmoe train models/configs/swinv2_moe_micro.json --ranks 4 --policy online --record run.jsonl.gz");
  command->callback([options] {
    ModelFile file = read_model_file(options->config);
    if (options->steps > 0) {
      file.training.steps = options->steps;
      file.training.warmup_steps = std::min(file.training.warmup_steps, options->steps);
    }
    const Interrupt interrupt;
    options->machine.run("train", [&](Communicator& world) { run_rank(*options, file, world); });
  });
}

}  // namespace flex::cli
