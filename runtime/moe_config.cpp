#include "runtime/moe_config.h"

#include <bit>
#include <cmath>

#include "base/philox.h"
#include "base/require.h"

namespace flex {

Workload workload_of(const MoeConfig& config, int world) {
  Workload w;
  w.world = world;
  w.num_experts = config.num_experts;
  w.model_dim = config.model_dim;
  w.hidden_dim = config.hidden_dim;
  w.dtype = config.dtype;
  w.ffn = config.ffn;
  w.fc1_bias = config.ffn == FfnKind::kStandard;
  w.fc2_bias = config.ffn == FfnKind::kStandard && config.fc2_bias != Fc2Bias::kNone;
  w.train_fc2_bias = w.fc2_bias && config.fc2_bias == Fc2Bias::kTrained;
  w.is_postscore = config.is_postscore;
  w.gate = config.gate;
  w.projection_dim = config.projection_dim;
  w.gate_loss = config.has_loss();
  w.global_loss_scope = config.loss_scope == LossScope::kGlobal;
  w.regather_weights = config.regather_weights;
  return w;
}

void validate(const MoeConfig& config, int world) {
  validate(workload_of(config, world));
  if (config.gate == GateKind::kCosine) {
    require(config.projection_dim >= 1, "projection_dim is {}; it is at least 1", config.projection_dim);
    require(config.initial_temperature > 0, "initial_temperature is {}; it is above 0",
            config.initial_temperature);
  }
  require(std::isfinite(config.gate_noise) && config.gate_noise >= 0, "gate_noise is {}; it is zero or more",
          config.gate_noise);
  require(std::isfinite(config.z_loss_weight) && config.z_loss_weight >= 0,
          "z_loss_weight is {}; it is zero or more", config.z_loss_weight);
  const bool needs_noise = config.gate_loss == GateLossKind::kLoadImportance ||
                           config.gate_loss == GateLossKind::kLoadImportanceReleased;
  require(!needs_noise || config.gate_noise > 0, "the {} loss needs gate_noise above 0; it is {}",
          name(config.gate_loss), config.gate_noise);
}

std::uint64_t stable_hash(const MoeConfig& c) {
  std::uint64_t hash = 0;
  const auto mix = [&hash](auto value) {
    if constexpr (std::is_floating_point_v<decltype(value)>) {
      hash = splitmix64(hash ^ std::bit_cast<std::uint64_t>(value));
    } else {
      hash = splitmix64(hash ^ static_cast<std::uint64_t>(value));
    }
  };
  mix(c.model_dim), mix(c.hidden_dim), mix(c.num_experts), mix(c.dtype), mix(c.gate), mix(c.projection_dim);
  mix(c.initial_temperature), mix(c.gate_noise), mix(c.normalize_gate), mix(c.batch_prioritized_routing);
  mix(c.is_postscore), mix(c.ffn), mix(c.activation), mix(c.fc2_bias), mix(c.gate_loss), mix(c.z_loss_weight);
  mix(c.loss_scope), mix(c.regather_weights), mix(c.seed), mix(c.layer);
  return hash;
}

}  // namespace flex
