#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/host_element.h"
#include "models/procedural_images.h"
#include "models/trainer.h"
#include "runtime/launch.h"
#include "tests/models/configs.h"

/// Small models that are trained on several ranks.
namespace flex::testing {

/// Two stages of experts behind two without; nothing is dropped, and what is random is drawn.
[[nodiscard]] inline std::string micro_model(const std::string& block, std::int64_t experts,
                                             const std::string& gate = "cosine") {
  return R"({"block": ")" + block + R"(", "embed_dim": 8, "depths": [1, 2, 2, 2], "num_heads": [1, 2, 2, 4],
      "image_size": 64, "window_size": 4, "num_classes": 5, "drop_path": 0.2,
      "moe": {"num_experts": )" +
         std::to_string(experts) + R"(, "capacity_factor": 0, "projection_dim": 8, "gate_noise": 1,
      "aux_loss": "load_importance", "gate": ")" +
         gate + R"("}})";
}

[[nodiscard]] inline TrainingConfig micro_training(DType dtype, std::int64_t steps) {
  return {.dtype = dtype,
          .batch_size = 8,
          .steps = steps,
          .warmup_steps = std::min<std::int64_t>(steps, 2),
          .clip_grad_norm = 1.0,
          .seed = 3};
}

/// Gives the residual branches, which begin as nothing in a swinv2 model, a say from the start.
inline void open_branches(SwinV2Moe& model) {
  for (const ModelParameter& parameter : model.parameters().all()) {
    if (parameter.spec.name.find(".norm") == std::string::npos || !parameter.spec.name.ends_with("weight"))
      continue;
    Tensor host(parameter.value.dtype, parameter.value.shape);
    for (std::int64_t i = 0; i < host.num_elements(); ++i) set_host_element(host, i, 0.5);
    copy_blocking(parameter.value, host);
  }
}

/// Losses of `training.steps` steps on this rank.
[[nodiscard]] inline std::vector<double> losses_of(Trainer& trainer, RankContext& context) {
  ProceduralImages images(trainer.model().config(), trainer.training().dtype, trainer.local_batch(), 11);
  std::vector<double> losses;
  for (std::int64_t step = 0; step < trainer.training().steps; ++step) {
    const std::int64_t first = step * trainer.training().batch_size + context.rank() * trainer.local_batch();
    losses.push_back(trainer.step_blocking(images.make(first)).loss);
  }
  return losses;
}

/// Losses on every rank of a world of threads.
[[nodiscard]] inline std::vector<std::vector<double>> train(
    const ModelConfig& model, const TrainingConfig& training, const Topology& topology,
    const std::function<PlanSource(RankContext&)>& plans = [](RankContext&) { return PlanSource{}; }) {
  std::vector<std::vector<double>> losses(static_cast<std::size_t>(topology.world));
  run_ranks(topology, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    const PlanSource source = plans(context);
    Trainer trainer(model, training, source, context);
    open_branches(trainer.model());
    losses[static_cast<std::size_t>(world.rank())] = losses_of(trainer, context);
  });
  return losses;
}

}  // namespace flex::testing
