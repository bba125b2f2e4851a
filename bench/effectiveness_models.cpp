#include <fmt/format.h>

#include "bench/effectiveness_study.h"

namespace flex::bench {

std::string name_of_model(std::int64_t experts) {
  return experts == 0 ? "dense" : fmt::format("E = {}", experts);
}

ModelConfig study_model(const StudySettings& settings, std::int64_t experts) {
  ModelConfig config{.name = name_of_model(experts),
                     .block = BlockKind::kSwinV2,
                     .image_size = kStudyImageSize,
                     .window_size = 4,
                     .embed_dim = settings.embed_dim,
                     .depths = settings.depths,
                     .num_heads = {1, 2, 4, 8},
                     .mlp_ratio = settings.mlp_ratio,
                     .num_classes = settings.num_classes};
  if (experts == 0) return config;
  const Routing routing{.top_k = 1, .capacity_factor = 1.0};
  config.moe.blocks = default_moe_blocks(config.depths);
  config.moe.num_experts = experts;
  config.moe.training = routing;
  config.moe.inference = routing;
  config.moe.gate = settings.gate == "linear" ? GateKind::kLinear : GateKind::kCosine;
  config.moe.projection_dim = 32;
  config.moe.loss_weight = settings.loss_weight;
  return config;
}

TrainingConfig study_training(const StudySettings& settings, std::int64_t steps, std::uint64_t seed) {
  return {.dtype = settings.dtype,
          .batch_size = settings.batch_size,
          .steps = steps,
          .learning_rate = settings.learning_rate,
          .min_learning_rate = 0.01 * settings.learning_rate,
          .warmup_steps = steps / 20,
          .weight_decay = 0.05,
          .clip_grad_norm = 3.0,
          .label_smoothing = 0.1,
          .seed = seed};
}

}  // namespace flex::bench
