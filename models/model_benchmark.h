#pragma once

#include <functional>
#include <vector>

#include "models/operation_clock.h"
#include "models/planned_layer.h"
#include "models/training_config.h"

namespace flex {

/// A model that is timed on procedural images.
struct ModelBenchmark {
  ModelConfig model;
  TrainingConfig training;  ///< element type and batch; of a training step all of it
  bool trains = true;       ///< whole training steps, or inference
  int warmup = 2;
  int repeats = 5;
};

/// What was measured, equal on all ranks but for the operations, which are this rank's.
struct ModelMeasurement {
  std::vector<double> step_us;  ///< of each repeat, the longest of the ranks
  double median_us = 0;
  double images_per_s = 0;           ///< of the global batch, by the median
  std::int64_t parameter_bytes = 0;  ///< values and gradients on this rank
  std::int64_t optimizer_bytes = 0;
  std::int64_t activation_bytes = 0;
  std::vector<OperationShare> operations;  ///< of one more step
};

/// Share of the device's matrix products in a step of one rank: two floating-point operations for each of the
/// multiply-accumulates that `model show` counts, three times those of a forward pass in training.
[[nodiscard]] double matrix_share(const ModelBenchmark& benchmark, double images_per_s,
                                  const DeviceCeilings& ceilings);

/// Times steps with the copies of images and labels to the device. Collective. `progress` gets (done, total)
/// on rank 0. @throws InputError for a benchmark that cannot be.
[[nodiscard]] ModelMeasurement benchmark_model(const ModelBenchmark& benchmark, const PlanSource& plans,
                                               RankContext& context,
                                               const std::function<void(int, int)>& progress = {});

/// The layers of the model as a recording's header has them.
[[nodiscard]] std::vector<TraceLayer> trace_layers_of(const ModelConfig& model,
                                                      const TrainingConfig& training, bool trains, int world);

}  // namespace flex
