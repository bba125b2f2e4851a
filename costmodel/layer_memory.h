#pragma once

#include <cstdint>

#include "costmodel/plan.h"
#include "costmodel/workload.h"
#include "kernels/device.h"
#include "kernels/moe/expert_ffn.h"

namespace flex {

/// What decides a layer's memory beside workload and plans.
struct LayerMemorySettings {
  Activation activation = Activation::kGelu;
  bool training = true;  ///< a backward pass follows, with its gradients and what is kept for it
  /// Where scratch of the routing kernels is counted for. In a build without CUDA theirs counts as none.
  Device device = Device::cpu();
};

/// Bytes of one layer on one rank, the tokens' inputs, outputs and their gradients left out.
struct LayerMemory {
  std::int64_t parameter_bytes = 0;
  std::int64_t gradient_bytes = 0;  ///< of parameters; 0 without training
  std::int64_t activation_bytes =
      0;  ///< the most that activations, gathered weights and scratch take at once

  [[nodiscard]] std::int64_t total_bytes() const {
    return parameter_bytes + gradient_bytes + activation_bytes;
  }
};

/// Rows of the tile of scratch through which gradients of `rows` hidden rows pass when they are computed in
/// place: small beside the hidden rows where those are large, but large enough that products lose little (an
/// eighth of their rate with 32 MiB on one H200, nothing that could be measured with 128). `row_bytes`: of
/// one row of all experts.
[[nodiscard]] std::int64_t hidden_tile_rows(std::int64_t rows, std::int64_t row_bytes);

/// Peak memory of a layer, piece by piece as the runtime's layer takes it, each piece rounded up to
/// kAlignmentBytes. `workload` is that of the forward pass; its num_tokens are the rank's. Both plans are
/// legal and have the same r.
[[nodiscard]] LayerMemory layer_memory(const Workload& workload, const Plan& forward, const Plan& backward,
                                       const LayerMemorySettings& settings);

/// The most memory that a layer may take on one rank: plans that need more are as good as illegal.
struct MemoryLimit {
  std::int64_t bytes = 0;  ///< 0: no limit
  LayerMemorySettings settings = {};

  /// Of a layer whose passes both run with `plan`.
  [[nodiscard]] std::int64_t needed_bytes(const Workload& workload, const Plan& plan) const {
    return layer_memory(workload, plan, plan, settings).total_bytes();
  }
  [[nodiscard]] bool allows(const Workload& workload, const Plan& plan) const {
    return bytes == 0 || needed_bytes(workload, plan) <= bytes;
  }
};

}  // namespace flex
