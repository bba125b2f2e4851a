#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "runtime/training_memory.h"

namespace flex {

/// What `--suite` calls it.
inline constexpr std::string_view kMemorySuite = "memory";

struct MemorySuiteRow {
  std::int64_t tokens = 0;   ///< T of a step
  double fairseq_GiB = 0.0;  ///< published
  double tutel_GiB = 0.0;    ///< published
  /// Measured here; nothing where the device has too little memory.
  std::optional<TrainingMemory> flex, einsum;
  /// Largest difference between what the two computed (y, dx), over the largest magnitude; 0 unless both ran.
  double output_difference = 0.0;
};

struct MemorySuiteResult {
  LayerTraining layer;  ///< but for the tokens
  std::vector<MemorySuiteRow> rows;
};

/// Memory and time of training one layer (M = H = 4096, k = 2, 2 experts, f = 1, relu) by tokens, of Flex and
/// of the einsum baseline. `progress` is called with (done, total) measurements. Blocking.
/// @throws InputError on the CPU; DeviceError if the two formulations do not compute the same.
/// @source published figures: Hwang et al., "Tutel: Adaptive Mixture-of-Experts at Scale", the table of GPU
/// memory for a single layer
[[nodiscard]] MemorySuiteResult run_memory_suite(DType dtype, bool allow_tf32, Device device,
                                                 const std::function<void(int, int)>& progress = {});

}  // namespace flex
