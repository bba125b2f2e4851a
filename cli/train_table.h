#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/trainer.h"

namespace flex::cli {

/// One step of a training run; `step` counts from 1.
struct TrainedStep {
  std::int64_t step = 0;
  StepResult result;
};

/// A row for every `every`-th step and the last one.
[[nodiscard]] std::string training_table(const std::vector<TrainedStep>& steps, std::int64_t every);
/// All of them as a JSON object.
[[nodiscard]] std::string training_json(const std::vector<TrainedStep>& steps);

}  // namespace flex::cli
