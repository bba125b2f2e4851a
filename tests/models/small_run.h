#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "models/training_run.h"
#include "runtime/launch.h"
#include "tests/models/training_runs.h"
#include "traces/training_metrics.h"

/// A small model that is trained in a folder.
namespace flex::testing {

/// Of a model with `num_experts`, in steps of eight procedural images.
[[nodiscard]] inline ModelFile small_run(std::int64_t steps, std::int64_t num_experts = 2,
                                         DType dtype = DType::kF32) {
  ModelFile file{.model = model_of(micro_model("swinv2", num_experts)),
                 .training = micro_training(dtype, steps)};
  file.data.procedural = {.num_images = 40, .num_validation_images = 21, .nuisance = 0.5};
  file.data.augment = AugmentConfig::light();
  file.run = {.log_every = 1, .evaluate_every = 5, .checkpoint_every = 4, .drift_check_every = 3};
  fit_procedural_data(file);
  return file;
}

/// What a part of a run left, and what it said.
struct RunPart {
  TrainingOutcome outcome;
  RunStart start;
  std::vector<std::string> notices{};
};

/// Runs `file` in `folder` until its end, or until `last_step` is done.
[[nodiscard]] inline RunPart run_part(const ModelFile& file, const std::filesystem::path& folder, int ranks,
                                      bool resumes, std::int64_t last_step = -1) {
  const TrainingData data = open_training_data(file);
  const ModelFile resolved = resolve(file, data);
  RunPart part;
  run_ranks({.world = ranks, .ranks_per_node = ranks}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    RunFolder run_folder(folder, resumes, context.control());
    TrainingRunOptions options;
    std::int64_t done = run_folder.start().step;
    const bool is_first = world.rank() == 0;
    if (last_step >= 0) options.stop_requested = [&] { return is_first && ++done >= last_step; };
    options.listener.notice = [&](const std::string& line) { part.notices.push_back(line); };
    TrainingRun run(resolved, data, &run_folder, options, {}, context);
    const TrainingOutcome outcome = run.run_blocking();
    if (!is_first) return;
    part.outcome = outcome;
    part.start = run_folder.start();
  });
  return part;
}

/// Losses of the lines of metrics, by step; nothing may be missing or twice there.
[[nodiscard]] inline std::vector<double> logged_losses(const std::filesystem::path& folder) {
  std::vector<double> losses;
  for (const StepMetrics& line : read_metrics(RunPaths{folder}.metrics()).steps) {
    EXPECT_EQ(line.step, std::ssize(losses) + 1);
    losses.push_back(line.loss);
  }
  return losses;
}

}  // namespace flex::testing
