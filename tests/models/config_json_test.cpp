#include "models/config_json.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json_object.h"
#include "tests/models/configs.h"

namespace flex::testing {
namespace {

TrainingConfig back(const TrainingConfig& training) {
  return read_training_config(JsonObject(nlohmann::json(to_json(training)), "t.json"));
}

TEST(ConfigJson, OfEveryConfigurationReadsBackEqual) {
  int configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FLEX_SOURCE_DIR "/models/configs")) {
    const ModelFile file = read_model_file(entry.path());
    EXPECT_EQ(model_of(to_json(file.model).dump()), file.model) << entry.path();
    EXPECT_EQ(back(file.training), file.training) << entry.path();
    ++configs;
  }
  EXPECT_GE(configs, 6);
}

// Nothing is at its default, so that a key that is left out shows.
TEST(ConfigJson, HoldsEveryKey) {
  const ModelConfig model = model_of(R"({"name": "all", "block": "swin_moe", "embed_dim": 8,
      "depths": [1, 2, 3, 2], "num_heads": [1, 2, 2, 4], "image_size": 64, "window_size": 4,
      "pretrained_windows": [3, 3, 3, 2], "mlp_ratio": 2, "num_classes": 5, "activation": "silu",
      "drop_path": 0.1, "checkpointed": [[1, 1]],
      "moe": {"num_experts": 4, "blocks": [[2, 0]], "top_k": 2, "capacity_factor": 0.3, "inference_top_k": 3,
      "inference_capacity_factor": -1.5, "gate": "linear", "projection_dim": 8, "initial_temperature": 0.7,
      "gate_noise": 0.4, "add_noise": false, "normalize_gate": true, "batch_prioritized_routing": false,
      "aux_loss": "load_importance_released", "z_loss_weight": 0.1, "loss_weight": 0.2,
      "loss_scope": "local", "regather_weights": true}})");
  EXPECT_EQ(model_of(to_json(model).dump()), model);
  const TrainingConfig training = {.dtype = DType::kBF16,
                                   .batch_size = 3,
                                   .steps = 7,
                                   .learning_rate = 0.1,
                                   .min_learning_rate = 0.01,
                                   .warmup_steps = 2,
                                   .cosine_schedule = false,
                                   .weight_decay = 0.3,
                                   .no_decay = {"a"},
                                   .beta1 = 0.8,
                                   .beta2 = 0.7,
                                   .epsilon = 1e-7,
                                   .clip_grad_norm = 2,
                                   .label_smoothing = 0.2,
                                   .average_decay = 0.6,
                                   .loss_scale = 4,
                                   .dynamic_loss_scale = true,
                                   .seed = 0xFFFFFFFFFFFFFFFFULL};
  EXPECT_EQ(back(training), training);
}

}  // namespace
}  // namespace flex::testing
