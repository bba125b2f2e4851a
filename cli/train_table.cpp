#include "cli/train_table.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/table.h"

namespace flex::cli {

std::string training_table(const std::vector<TrainedStep>& steps, std::int64_t every) {
  Table table({{"step"}, {"loss"}, {"cross entropy"}, {"auxiliary"}, {"gradient norm"}, {"learning rate"}});
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool is_shown = i % static_cast<std::size_t>(every) == 0 || i + 1 == steps.size();
    const StepResult& step = steps[i].result;
    if (!is_shown) continue;
    table.add({fmt::format("{}", steps[i].step), fmt::format("{:.4f}", step.loss),
               fmt::format("{:.4f}", step.cross_entropy), fmt::format("{:.4f}", step.auxiliary_loss),
               fmt::format("{:.3f}", step.gradient_norm), fmt::format("{:.2e}", step.learning_rate)});
  }
  return table.text();
}

std::string training_json(const std::vector<TrainedStep>& steps) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const TrainedStep& step : steps) {
    all.push_back({{"step", step.step},
                   {"loss", step.result.loss},
                   {"cross_entropy", step.result.cross_entropy},
                   {"auxiliary_loss", step.result.auxiliary_loss},
                   {"gradient_norm", step.result.gradient_norm},
                   {"learning_rate", step.result.learning_rate},
                   {"loss_scale", step.result.loss_scale},
                   {"updated", step.result.updated}});
  }
  nlohmann::ordered_json json;
  json["steps"] = std::move(all);
  return json.dump(2) + "\n";
}

}  // namespace flex::cli
