#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "models/operation_clock.h"
#include "models/trainer.h"
#include "traces/training_metrics.h"

namespace flex {

/// Plans of a model's layers in short: those that most layers run, and how many layers run others:
/// `r1 d2 2dh`, `r1 d2 2dh, 1 other`. Of as frequent ones the least; nothing without layers.
[[nodiscard]] std::string short_text(std::span<const PlanPair> plans);

/// What a progress line says of a step: loss, images/s, share of the MoE layers and plans, as far as known.
[[nodiscard]] std::string progress_text(const StepMetrics& metrics);

/// Runs the steps of a trainer and measures them on this rank: images/s of all ranks, and, in one step of
/// `sample_every`, the share of time that the MoE layers take. An unsampled step costs two readings of the
/// clock.
class TrainingMeter {
 public:
  /// Steps between two samples unless told otherwise.
  static constexpr std::int64_t kSampleEvery = 20;

  /// `trainer`, which nobody else gives a clock, must outlive it. The second step is sampled, since the first
  /// warms up, and then each `sample_every`-th; 0: none. @throws InputError for a negative number.
  TrainingMeter(Trainer& trainer, Device device, std::int64_t sample_every = kSampleEvery);

  /// One step of the trainer.
  StepResult step_blocking(const ImageBatch& batch);

  /// What the run says of the last step. images_per_s is over the steps since the last call, with the time
  /// between them; moe_share that of the last sample since then. `num_done`: steps that are done.
  [[nodiscard]] StepMetrics read(std::int64_t num_done, std::int64_t epoch);

  /// That of the last sample, however long ago: for a progress line.
  [[nodiscard]] std::optional<double> latest_moe_share() const { return latest_moe_share_; }

  /// The time since the last step counts in no figure: it went into an evaluation, or a checkpoint.
  void skip_time();

 private:
  StepResult sampled_step_blocking(const ImageBatch& batch);

  Trainer& trainer_;
  OperationClock clock_;
  std::int64_t sample_every_;
  std::int64_t num_steps_ = 0;
  StepResult last_;
  std::optional<double> moe_share_;  // sampled since the last read()
  std::optional<double> latest_moe_share_;
  std::int64_t counted_steps_ = 0;  // since the last read()
  std::int64_t counted_ns_ = 0;
  std::int64_t since_ns_ = 0;  // end of the step before, or when time was last skipped
};

}  // namespace flex
