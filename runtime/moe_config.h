#pragma once

#include <cstdint>

#include "costmodel/workload.h"
#include "kernels/moe/expert_ffn.h"
#include "kernels/moe/gate_loss.h"

namespace flex {

class JsonObject;

/// What becomes of the second bias of an expert.
enum class Fc2Bias : std::uint8_t {
  kTrained,
  kFrozen,  ///< added, but its gradient is neither computed nor reduced
  kNone,
};

/// Over which tokens an auxiliary loss is formed.
enum class LossScope : std::uint8_t {
  kGlobal,  ///< those of all ranks: the value of the global batch
  kLocal,   ///< each rank's own
};

/// One MoE layer, as every rank must describe it alike.
struct MoeConfig {
  std::int64_t model_dim = 0;    ///< M
  std::int64_t hidden_dim = 0;   ///< H of a whole expert
  std::int64_t num_experts = 0;  ///< E in the whole layer
  DType dtype =
      DType::kF32;  ///< of tokens, experts and their gradients; the gate is kept in gate_dtype(dtype)

  GateKind gate = GateKind::kLinear;
  std::int64_t projection_dim = 256;  ///< P of the cosine gate
  double initial_temperature = 0.5;   ///< init_t: the cosine gate starts at ln(1 / init_t)
  double gate_noise = 0.0;            ///< stddev of the training noise is gate_noise / E
  bool normalize_gate = true;
  bool batch_prioritized_routing = false;
  bool is_postscore = true;  ///< gate weights are applied when decoding, not when encoding

  FfnKind ffn = FfnKind::kStandard;
  Activation activation = Activation::kGelu;
  Fc2Bias fc2_bias = Fc2Bias::kTrained;

  GateLossKind gate_loss = GateLossKind::kGshard;
  double z_loss_weight = 0.0;
  LossScope loss_scope = LossScope::kGlobal;

  bool regather_weights = false;  ///< gather weights again in the backward pass instead of keeping them
  std::uint64_t seed = 0;         ///< of the initial parameters and of the noise
  std::uint32_t layer = 0;        ///< index in the model; part of what noise is drawn from

  [[nodiscard]] GateLossSettings loss_settings() const {
    return {.kind = gate_loss, .gate_noise = gate_noise, .z_loss_weight = z_loss_weight};
  }
  [[nodiscard]] bool has_loss() const { return gate_loss != GateLossKind::kNone || z_loss_weight != 0.0; }
};

/// The parts of a workload that the configuration decides, for `world` ranks. Tokens, capacity and k are left
/// at their defaults.
[[nodiscard]] Workload workload_of(const MoeConfig& config, int world);

/// @throws InputError naming the first setting that cannot be, also for `world` ranks.
void validate(const MoeConfig& config, int world);

/// Equal on every rank exactly if the configurations are (up to collisions).
[[nodiscard]] std::uint64_t stable_hash(const MoeConfig& config);

}  // namespace flex
