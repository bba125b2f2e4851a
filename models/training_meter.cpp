#include "models/training_meter.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/require.h"
#include "profiler/mark_source.h"

namespace flex {
namespace {

constexpr double kNsPerS = 1e9;
constexpr double kNsPerUs = 1e3;

// Operations that ModelPass::queue() has for MoE layers.
bool is_moe(const OperationShare& operation) {
  return operation.name == "moe_layer" || operation.name == "moe_layer_backward";
}

}  // namespace

std::string short_text(std::span<const PlanPair> plans) {
  if (plans.empty()) return {};
  std::map<PlanPair, std::size_t> counts;
  for (const PlanPair& pair : plans) ++counts[pair];
  const auto most = std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; });
  const std::size_t others = plans.size() - most->second;
  std::string text = to_string(most->first);
  if (others > 0) text += fmt::format(", {} other{}", others, others == 1 ? "" : "s");
  return text;
}

std::string progress_text(const StepMetrics& metrics) {
  std::string text = fmt::format("loss {:.4f}", metrics.loss);
  if (std::isfinite(metrics.images_per_s)) {
    const int digits = metrics.images_per_s < 100 ? 1 : 0;
    text += fmt::format(", {:.{}f} images/s", metrics.images_per_s, digits);
  }
  if (metrics.moe_share) text += fmt::format(", MoE {:.0f}%", 100 * *metrics.moe_share);
  if (!metrics.plans.empty()) text += ", " + metrics.plans;
  return text;
}

TrainingMeter::TrainingMeter(Trainer& trainer, Device device, std::int64_t sample_every)
    : trainer_(trainer), clock_(device), sample_every_(sample_every), since_ns_(steady_now_ns()) {
  require(sample_every >= 0, "TrainingMeter: a sample every {} steps; it is 0 or more", sample_every);
}

StepResult TrainingMeter::step_blocking(const ImageBatch& batch) {
  const bool is_sampled = sample_every_ > 0 && num_steps_ >= 1 && (num_steps_ - 1) % sample_every_ == 0;
  last_ = is_sampled ? sampled_step_blocking(batch) : trainer_.step_blocking(batch);
  const std::int64_t now_ns = steady_now_ns();
  counted_ns_ += now_ns - since_ns_;
  since_ns_ = now_ns;
  ++counted_steps_;
  ++num_steps_;
  return last_;
}

StepResult TrainingMeter::sampled_step_blocking(const ImageBatch& batch) {
  clock_.start_blocking(trainer_.stream());
  trainer_.set_clock(&clock_);
  const std::int64_t begin_ns = steady_now_ns();
  const StepResult result = trainer_.step_blocking(batch);
  const double step_us = static_cast<double>(steady_now_ns() - begin_ns) / kNsPerUs;
  trainer_.set_clock(nullptr);
  double moe_us = 0;
  for (const OperationShare& operation : clock_.shares())
    moe_us += is_moe(operation) ? operation.total_us : 0;
  if (!trainer_.model().moe_layers().empty())
    moe_share_ = latest_moe_share_ = std::clamp(moe_us / step_us, 0.0, 1.0);
  return result;
}

StepMetrics TrainingMeter::read(std::int64_t num_done, std::int64_t epoch) {
  std::vector<PlanPair> plans;
  for (const PlannedLayer& layer : trainer_.model().moe_layers()) plans.push_back(layer.last().plans);
  StepMetrics metrics{.step = num_done,
                      .epoch = epoch,
                      .loss = last_.loss,
                      .cross_entropy = last_.cross_entropy,
                      .auxiliary_loss = last_.auxiliary_loss,
                      .gradient_norm = last_.gradient_norm,
                      .learning_rate = last_.learning_rate,
                      .loss_scale = last_.loss_scale,
                      .updated = last_.updated,
                      .moe_share = moe_share_,
                      .plans = short_text(plans)};
  if (counted_ns_ > 0) {
    const auto images = static_cast<double>(counted_steps_ * trainer_.training().batch_size);
    metrics.images_per_s = images / (static_cast<double>(counted_ns_) / kNsPerS);
  }
  counted_steps_ = 0;
  counted_ns_ = 0;
  moe_share_.reset();
  return metrics;
}

void TrainingMeter::skip_time() { since_ns_ = steady_now_ns(); }

}  // namespace flex
