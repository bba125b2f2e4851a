#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "base/trim_memory.h"
#include "cli/commands.h"
#include "cli/evaluation_table.h"
#include "cli/interrupt.h"
#include "cli/model_plans.h"
#include "cli/progress.h"
#include "cli/rank_options.h"
#include "cli/train_table.h"
#include "models/training_run.h"

// flexmoe train [CONFIG.json] [-o RUN [--resume]] [--data KIND:FOLDER] [--init FILE] [--ranks 4]
// [--policy online] [--record [FILE]] [--steps N] [--json]
// Trains a model on a data set: in a folder with metrics, evaluations and checkpoints, or without one.
namespace flex::cli {
namespace {

struct Options {
  std::string config;
  std::string output;
  bool resumes = false;
  std::string data;
  std::string init;
  RankOptions machine;
  ModelPlanOptions plans;
  bool records = false;
  std::int64_t steps = 0;
  std::int64_t every = 0;
  std::string metrics;
  bool json = false;
};

void check(const Options& options) {
  require(!options.output.empty() || !options.resumes,
          "--resume goes on with the run of a folder; name it with -o RUN");
  require(options.output.empty() || options.metrics.empty(),
          "--metrics is for training without a folder; with -o the metrics are in {}",
          RunPaths{options.output}.metrics().string());
  require(!options.records || !options.plans.record.empty() || !options.output.empty(),
          "--record without a FILE records into the folder of a run; name it with -o RUN");
}

std::filesystem::path config_of(const Options& options) {
  if (!options.config.empty()) return options.config;
  require(options.resumes, "the model's file is missing: flexmoe train CONFIG.json");
  const std::filesystem::path path = RunPaths{options.output}.config();
  require(std::filesystem::exists(path), "{}: holds no run to go on with, and no CONFIG.json was given",
          options.output);
  return path;
}

// Warm-up keeps its share of epochs.
void set_steps(TrainingConfig& training, std::int64_t steps) {
  if (training.epochs > 0 && training.warmup_epochs > 0) {
    const double share = training.warmup_epochs / training.epochs;
    training.warmup_steps = std::llround(share * static_cast<double>(steps));
    training.warmup_epochs = 0;
  }
  training.epochs = 0;
  training.steps = steps;
  training.warmup_steps = std::min(training.warmup_steps, steps);
}

ModelFile read_file(const Options& options) {
  ModelFile file = read_model_file(config_of(options));
  if (!options.data.empty()) {
    file.data = with_data_source(file.data, options.data);
    fit_procedural_data(file);
  }
  if (!options.init.empty()) file.run.init = options.init;
  if (options.steps > 0) set_steps(file.training, options.steps);
  return file;
}

// What goes on with a run that was stopped; the configuration is in its folder.
std::string resume_command(const Options& options) {
  std::string command = fmt::format("flexmoe train -o {} --resume", options.output);
  const RankOptions& machine = options.machine;
  if (machine.launcher != "threads") {
    command += " --launcher " + machine.launcher;
  } else if (machine.ranks != 1) {
    command += fmt::format(" --ranks {}", machine.ranks);
  }
  if (machine.ranks_per_node > 0) command += fmt::format(" --ranks-per-node {}", machine.ranks_per_node);
  if (machine.device != "cpu") command += " --device " + machine.device;
  if (machine.tf32) command += " --tf32";
  if (!options.plans.policy.empty()) {
    command += fmt::format(" --policy '{}'", options.plans.policy);
  } else if (options.plans.plan != ModelPlanOptions{}.plan) {
    command += fmt::format(" --plan '{}'", options.plans.plan);
  }
  if (options.records) command += " --record";
  return command;
}

// What rank 0 says on the way.
class Narrator {
 public:
  Narrator(const Options& options, std::int64_t num_steps)
      : keeps_steps_(options.output.empty() || options.json), num_steps_(num_steps) {}

  [[nodiscard]] RunListener listener() {
    return {.step = [this](std::int64_t num_done, const StepResult& result,
                           const StepMetrics& metrics) { step(num_done, result, metrics); },
            .notice = [](const std::string& line) { fmt::print(stderr, "flexmoe train: {}\n", line); }};
  }
  [[nodiscard]] const std::vector<TrainedStep>& steps() const { return steps_; }

 private:
  void step(std::int64_t num_done, const StepResult& result, const StepMetrics& metrics) {
    if (!progress_) progress_.emplace("train", WhenInterrupted::kGoOn, num_done - 1);
    if (keeps_steps_) steps_.push_back({num_done, result});
    progress_->update(num_done, num_steps_, progress_text(metrics));
  }

  bool keeps_steps_;
  std::int64_t num_steps_;
  std::vector<TrainedStep> steps_;
  std::optional<Progress> progress_;
};

void print_result(const Options& options, const TrainingData& data, const Narrator& narrator,
                  const TrainingOutcome& outcome) {
  if (options.json) {
    fmt::print("{}", training_json(narrator.steps()));
    return;
  }
  if (options.output.empty()) {
    constexpr std::int64_t kMostRows = 20;
    const std::int64_t count = std::ssize(narrator.steps());
    const std::int64_t every = options.every > 0 ? options.every : (count + kMostRows - 1) / kMostRows;
    if (count > 0) fmt::print("{}", training_table(narrator.steps(), every));
  } else {
    fmt::print("{}: {} steps are done\n", options.output, outcome.num_done);
  }
  if (outcome.evaluation)
    fmt::print("{}", evaluation_text(*outcome.evaluation, data.training->class_names()));
}

/// @returns whether somebody asked to stop
bool run_rank(const Options& options, const ModelFile& file, const TrainingData& data, Communicator& world) {
  validate(file, world.size());
  RankContext context(world, options.machine.usable_device(file.training.dtype),
                      {.allow_tf32 = options.machine.tf32});
  std::optional<RunFolder> folder;
  ModelPlanOptions plan_options = options.plans;
  if (!options.output.empty()) {
    folder.emplace(options.output, options.resumes, context.control());
    if (options.records && plan_options.record.empty())
      plan_options.record = folder->paths().trace(folder->start().step).string();
  }
  ModelPlans plans(plan_options, file, true, context);
  Narrator narrator(options, file.training.steps);
  TrainingOutcome outcome;
  {
    TrainingRun run(
        file, data, folder ? &*folder : nullptr,
        {.metrics = options.metrics, .stop_requested = Interrupt::requested, .listener = narrator.listener()},
        plans.source(), context);
    outcome = run.run_blocking();
    plans.finish_blocking();
  }
  if (world.rank() != 0) return outcome.was_stopped;
  print_result(options, data, narrator, outcome);
  if (outcome.was_stopped) {
    fmt::print(stderr, "flexmoe train: stopped{}\n",
               options.output.empty() ? "" : "; go on with: " + resume_command(options));
  }
  return outcome.was_stopped;
}

void run(const Options& options, Outcome& outcome) {
  check(options);
  return_large_blocks();
  ModelFile file = read_file(options);
  const TrainingData data = open_training_data(file);
  file = resolve(std::move(file), data);
  const Interrupt interrupt;
  std::atomic<bool> was_stopped = false;
  options.machine.run("train", [&](Communicator& world) {
    if (run_rank(options, file, data, world)) was_stopped = true;
  });
  if (was_stopped) outcome.exit_code = kInterrupted;
}

void add_options(CLI::App& command, Options& options) {
  command
      .add_option("config", options.config, "A model's .json file; with --resume that of the folder is used")
      ->check(CLI::ExistingFile);
  command.add_option("-o,--output", options.output,
                     "Folder of the run: configuration, metrics, checkpoints, evaluation");
  command.add_flag("--resume", options.resumes,
                   "Go on from the newest checkpoint in the folder, if there is one");
  command.add_option("--data", options.data,
                     "Images instead of the configured ones: folder:ROOT, cifar10:FOLDER, cifar100:FOLDER or "
                     "procedural");
  command
      .add_option("--init", options.init, "Begin with the parameters of this .safetensors file or checkpoint")
      ->check(CLI::ExistingPath);
  command.add_option("--steps", options.steps, "Instead of the configured number")
      ->check(CLI::PositiveNumber);
  command.add_option("--metrics", options.metrics,
                     "Without a folder: write the lines of metrics to this file (.jsonl)");
  command.add_option("--every", options.every, "Steps between two lines of the table (otherwise 20 lines)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--json", options.json, "Print every step as JSON");
}

}  // namespace

void add_train(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand("train", "Train a model on images");
  auto options = std::make_shared<Options>();
  options->machine.ranks = 1;
  add_options(*command, *options);
  add_rank_options(*command, options->machine);
  add_model_plan_options(*command, options->plans);
  const CLI::Option* record =
      command
          ->add_option(
              "--record", options->plans.record,
              "Write routing, plans and times to this routing trace (.jsonl, or .jsonl.gz to pack it); "
              "without a file into the folder of the run")
          ->expected(0, 1);
  command->footer(
      "Examples:\n"
      "  flexmoe train models/configs/swinv2_moe_micro.json -o run --ranks 2 --policy online --record\n"
      "  flexmoe train -o run --ranks 2 --policy online --record --resume\n"
      "  flexmoe train models/configs/swin_moe_base_e32_22k.json --data folder:imagenet -o run --device "
      "cuda:0");
  command->callback([options, record, &outcome] {
    options->records = record->count() > 0;
    run(*options, outcome);
  });
}

}  // namespace flex::cli
