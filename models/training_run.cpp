#include "models/training_run.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/atomic_file.h"
#include "base/require.h"
#include "base/trim_memory.h"
#include "models/checkpoint/load_parameters.h"
#include "models/evaluate_set.h"
#include "models/parameter_hash.h"
#include "runtime/fail_together.h"
#include "runtime/max_over_ranks.h"

namespace flex {

void validate(const ModelFile& file, int world) {
  validate(file.model);
  validate(file.training, world);
  std::uint32_t layer = 0;
  for (const BlockPlace place : file.model.moe.blocks)
    validate(moe_layer_config(file.model, place, file.training.dtype, layer++, file.training.seed), world);
}

ModelFile resolve(ModelFile file, const TrainingData& data) {
  file.training = with_steps(file.training, data.training->num_images());
  // A run that goes on from a checkpoint does not need the file any more.
  const std::filesystem::path& init = file.run.init;
  if (std::filesystem::exists(init)) file.model = with_position_windows(file.model, ParameterFiles(init));
  return file;
}

TrainingRun::TrainingRun(const ModelFile& file, const TrainingData& data, RunFolder* folder,
                         TrainingRunOptions options, const PlanSource& plans, RankContext& context)
    : file_((validate(file, context.size()), file)),
      data_(data),
      folder_(folder),
      options_(std::move(options)),
      context_(context),
      trainer_(file.model, file.training, plans, context),
      loader_(data.training, loader_options(file, LoadMode::kTraining, context)),
      meter_(trainer_, context.device()) {
  restore_blocking();
  loader_.seek(trainer_.num_steps());
  do_patiently_together_blocking(context.control(), [&] {
    if (context.rank() == 0) begin_files();
  });
}

void TrainingRun::notice(const std::string& line) const {
  if (context_.rank() == 0 && options_.listener.notice) options_.listener.notice(line);
}

void TrainingRun::restore_blocking() {
  if (folder_ != nullptr && !folder_->start().checkpoint.empty()) {
    const RunStart& start = folder_->start();
    for (const std::string& reason : start.damaged) notice("damaged checkpoint: " + reason);
    require(start.step <= file_.training.steps, "{}: has done {} steps; training.steps is {}",
            start.checkpoint.string(), start.step, file_.training.steps);
    const LoadedCheckpoint loaded = load_checkpoint(start.checkpoint, trainer_);
    for (const std::string& change : loaded.changed) notice("training." + change);
    return;
  }
  if (file_.run.init.empty()) return;
  const LoadedParameters loaded = load_parameters(file_.run.init, trainer_, {.keeps_head = true});
  notice(
      fmt::format("{}: {} parameters were read{}", file_.run.init.string(), loaded.num_loaded,
                  loaded.kept.empty() ? "" : fmt::format("; {} began anew", fmt::join(loaded.kept, ", "))));
}

// The folder first: metrics are cut only if all else went well.
void TrainingRun::begin_files() {
  if (folder_ != nullptr) folder_->begin(file_, data_.training->class_names());
  const std::filesystem::path metrics = folder_ != nullptr ? folder_->paths().metrics() : options_.metrics;
  if (!metrics.empty()) metrics_.emplace(metrics, trainer_.num_steps());
}

TrainingOutcome TrainingRun::run_blocking() {
  TrainingOutcome outcome;
  const std::int64_t num_steps = file_.training.steps;
  meter_.skip_time();
  while (trainer_.num_steps() < num_steps && !outcome.was_stopped) {
    const StepResult result = meter_.step_blocking(loader_.next_blocking());
    if (folder_ != nullptr) folder_->keep();
    const bool is_last = trainer_.num_steps() == num_steps;
    log(result, is_last);
    if (is_due(file_.run.drift_check_every) || is_last) check_drift_blocking();
    if (is_due(file_.run.evaluate_every) || is_last) evaluate_blocking(outcome);
    const bool must_stop = must_stop_blocking();
    outcome.was_stopped = must_stop && !is_last;
    if (is_due(file_.run.checkpoint_every) || is_last || must_stop) save_blocking();
  }
  outcome.num_done = trainer_.num_steps();
  if (folder_ != nullptr) folder_->keep();
  return outcome;
}

bool TrainingRun::is_due(std::int64_t every) const { return every > 0 && trainer_.num_steps() % every == 0; }

std::int64_t TrainingRun::epoch() const {
  return (trainer_.num_steps() * file_.training.batch_size - 1) / data_.training->num_images();
}

void TrainingRun::log(const StepResult& result, bool is_last) {
  if (context_.rank() != 0) return;
  if (is_due(file_.run.log_every) || is_last) {
    last_metrics_ = meter_.read(trainer_.num_steps(), epoch());
    if (metrics_) metrics_->add(last_metrics_);
  }
  if (options_.listener.step) options_.listener.step(trainer_.num_steps(), result, last_metrics_);
}

void TrainingRun::check_drift_blocking() {
  if (context_.size() == 1) return;
  static_cast<void>(parameter_hash_blocking(trainer_.model().parameters(), context_));
  meter_.skip_time();
}

void TrainingRun::evaluate_blocking(TrainingOutcome& outcome) {
  if (data_.validation == nullptr || folder_ == nullptr) return;
  const auto infer = [this](ConstTensorView images) { return trainer_.infer_blocking(images); };
  const bool is_last = trainer_.num_steps() == file_.training.steps;
  ClassifierEvaluation evaluation = evaluate_set_blocking(
      infer, data_.validation, loader_options(file_, LoadMode::kEvaluation, context_), context_);
  if (context_.rank() == 0) {
    const EvaluationMetrics metrics{.step = trainer_.num_steps(),
                                    .epoch = epoch(),
                                    .samples = evaluation.num_samples(),
                                    .loss = evaluation.cross_entropy(),
                                    .top1 = evaluation.top1(),
                                    .top5 = evaluation.top5()};
    if (metrics_) metrics_->add(metrics);
    if (is_last) {
      write_file_atomically(folder_->paths().evaluation(),
                            to_json(evaluation, data_.training->class_names()).dump(2) + "\n");
    }
    if (options_.listener.evaluation) options_.listener.evaluation(metrics);
  }
  if (is_last) outcome.evaluation = std::move(evaluation);
  trim_memory();
  meter_.skip_time();
}

void TrainingRun::save_blocking() {
  if (folder_ == nullptr) return;
  save_checkpoint(folder_->paths().checkpoints(), trainer_, file_.run.keep_checkpoints);
  trim_memory();
  meter_.skip_time();
}

// A signal reaches the ranks at different times.
bool TrainingRun::must_stop_blocking() {
  if (!options_.stop_requested) return false;
  std::array<std::int64_t, 1> word = {options_.stop_requested() ? 1 : 0};
  max_over_ranks_blocking(word, context_.control());
  return word[0] != 0;
}

}  // namespace flex
