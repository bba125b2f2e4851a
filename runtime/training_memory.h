#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/moe_config.h"

namespace flex {

/// How the same layer is computed.
enum class LayerFormulation : std::uint8_t {
  kFlex,    ///< MoeLayer
  kEinsum,  ///< GshardLayer, the baseline
};

/// One layer that is trained on one rank, with random tokens.
struct LayerTraining {
  MoeConfig config;
  std::int64_t num_tokens = 0;  ///< T
  std::int64_t top_k = 2;
  double capacity_factor = 1.0;
  bool allow_tf32 = false;
};

/// What a training step of a layer takes.
struct TrainingMemory {
  std::int64_t peak_bytes = 0;
  double forward_us = 0;   ///< median, of the forward pass of a training step
  double training_us = 0;  ///< median, forward and backward
  /// y and dx of the first tokens, one after the other, to compare formulations by.
  std::vector<double> outputs;
};

/// Peak memory of training steps: parameters, gradients, x, y, dy, dx, activations and all workspaces, that
/// of the matrix products among them, and whatever the CUDA libraries take for themselves when they are first
/// used. Measured as what the driver has less to give than before the first of these was made, after each
/// forward and each backward pass of two steps; the layers return nothing to the device within a pass.
/// Another program on the device must not allocate meanwhile. Then some steps are timed.
///
/// Matrix products run the algorithm that the library suggests first: no search for others, whose scratch
/// would count. Nothing is returned if the device has too little memory. Blocking.
/// @throws InputError on the CPU.
[[nodiscard]] std::optional<TrainingMemory> measure_training_memory(const LayerTraining& training,
                                                                    LayerFormulation formulation,
                                                                    Device device);

}  // namespace flex
