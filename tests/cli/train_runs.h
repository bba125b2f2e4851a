#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/cli/program.h"

/// A training run that is small enough to be repeated.
namespace flex {

struct SmallTraining {
  std::int64_t steps = 6;
  std::int64_t experts = 4;
  std::int64_t batch_size = 8;
  double capacity_factor = 1.25;
  std::string run = R"("log_every": 1, "checkpoint_every": 2)";
  std::string data = R"("images": 64, "validation_images": 16, "augment": "light")";
};

/// Writes the model's file `path`.
inline std::string write_small_training(const std::filesystem::path& path, const SmallTraining& small = {}) {
  std::ofstream(path) << R"({"name": "small", "block": "swinv2", "embed_dim": 8, "depths": [1, 1, 2, 2],
    "num_heads": [1, 1, 2, 2], "image_size": 32, "window_size": 4, "num_classes": 5,
    "moe": {"num_experts": )"
                      << small.experts << R"(, "capacity_factor": )" << small.capacity_factor
                      << R"(, "projection_dim": 8},
    "training": {"batch_size": )"
                      << small.batch_size << R"(, "steps": )" << small.steps << R"(, "warmup_steps": )"
                      << std::min<std::int64_t>(2, small.steps) << R"(, "clip_grad_norm": 1},
    "data": {)" << small.data
                      << R"(}, "run": {)" << small.run << "}}";
  return path.string();
}

}  // namespace flex
