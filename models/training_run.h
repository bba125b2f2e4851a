#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/checkpoint/training_checkpoint.h"
#include "models/data/batch_loader.h"
#include "models/evaluation.h"
#include "models/metrics_log.h"
#include "models/run_folder.h"
#include "models/trainer.h"
#include "models/training_data.h"
#include "models/training_meter.h"

namespace flex {

/// Who hears of a training run, on rank 0 alone. Each may be missing.
struct RunListener {
  /// After each step: how many are done, what it did, and what the last line of metrics says.
  std::function<void(std::int64_t num_done, const StepResult& result, const StepMetrics& metrics)> step{};
  std::function<void(const EvaluationMetrics& metrics)> evaluation{};
  /// Something that people should know: a damaged checkpoint, a setting that has changed.
  std::function<void(const std::string& line)> notice{};
};

struct TrainingRunOptions {
  std::filesystem::path metrics{};  ///< file of metrics without a folder; empty: none
  /// Asks the run to end after the step; may differ from rank to rank.
  std::function<bool()> stop_requested{};
  RunListener listener{};
};

/// What a run did; equal on all ranks.
struct TrainingOutcome {
  std::int64_t num_done = 0;                         ///< steps of all parts
  bool was_stopped = false;                          ///< before the last step
  std::optional<ClassifierEvaluation> evaluation{};  ///< of the last step
};

/// @throws InputError for a model or a training that cannot be on `world` ranks.
void validate(const ModelFile& file, int world);
/// `file` as a run of it is: with the window that the parameters of `run.init` need, and with as many steps
/// as its epochs are. @throws InputError, FileError.
[[nodiscard]] ModelFile resolve(ModelFile file, const TrainingData& data);

/// Trains a model on a data set, in a folder or without one: metrics, evaluations, checkpoints. Two runs of
/// one file differ in nothing but what the clock says, whether interrupted or not; on as many ranks of the
/// CPU and with the same plans bit by bit. Collective: every rank makes the same calls.
class TrainingRun {
 public:
  /// Makes the trainer, and puts it where `folder` says, or on the parameters of `run.init`. Then writes what
  /// the folder begins with.
  /// @param file resolved
  /// @param folder null: nothing is written but metrics, and nothing is evaluated
  /// @throws InputError for what does not go together; what load_checkpoint() and load_parameters() throw.
  TrainingRun(const ModelFile& file, const TrainingData& data, RunFolder* folder, TrainingRunOptions options,
              const PlanSource& plans, RankContext& context);
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  /// Trains to the last step, or until somebody asked to stop: then what was done is kept in a checkpoint.
  /// @throws what the trainer, loader and files throw; Error if ranks hold different parameters.
  TrainingOutcome run_blocking();

  [[nodiscard]] Trainer& trainer() { return trainer_; }

 private:
  void restore_blocking();
  void begin_files();
  void notice(const std::string& line) const;
  void log(const StepResult& result, bool is_last);
  void check_drift_blocking();
  void evaluate_blocking(TrainingOutcome& outcome);
  void save_blocking();
  [[nodiscard]] bool must_stop_blocking();
  [[nodiscard]] std::int64_t epoch() const;
  [[nodiscard]] bool is_due(std::int64_t every) const;

  ModelFile file_;
  TrainingData data_;
  RunFolder* folder_;
  TrainingRunOptions options_;
  RankContext& context_;
  Trainer trainer_;
  BatchLoader loader_;
  TrainingMeter meter_;
  std::optional<MetricsLog> metrics_;  // rank 0's
  StepMetrics last_metrics_;
};

}  // namespace flex
