#pragma once

#include <cmath>
#include <string>

#include "traces/training_metrics.h"

namespace flex {

/// Metrics of a run of invented figures, as its file has them: a line for each step, an evaluation after each
/// tenth, and a share of MoE layers in each fifth.
[[nodiscard]] inline std::string sample_training(std::int64_t steps, double top1 = 0.5) {
  std::string lines;
  for (std::int64_t step = 1; step <= steps; ++step) {
    const auto at = static_cast<double>(step);
    StepMetrics metrics{.step = step,
                        .epoch = step / 10,
                        .loss = 2 + 1 / at,
                        .cross_entropy = 2,
                        .auxiliary_loss = 1,
                        .gradient_norm = step == 3 ? 5000 : 1.5,
                        .learning_rate = 1e-3 / at,
                        .loss_scale = 1,
                        .updated = step != 4,
                        .images_per_s = 800 + at,
                        .plans = "r1 d1 linear"};
    if (step % 5 == 0) metrics.moe_share = 0.25;
    lines += metrics_line(metrics);
    if (step % 10 != 0) continue;
    // The best one is that after ten steps.
    lines += metrics_line(EvaluationMetrics{.step = step,
                                            .epoch = step / 10,
                                            .samples = 100,
                                            .loss = 2.5,
                                            .top1 = top1 * (10 / at),
                                            .top5 = 0.875});
  }
  return lines;
}

}  // namespace flex
