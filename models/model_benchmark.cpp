#include "models/model_benchmark.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/require.h"
#include "models/image_classifier.h"
#include "models/model_summary.h"
#include "models/procedural_images.h"
#include "models/trainer.h"
#include "profiler/mark_source.h"
#include "runtime/max_over_ranks.h"

namespace flex {
namespace {

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// One rank's part: a trainer, or a classifier.
class TimedModel {
 public:
  TimedModel(const ModelBenchmark& benchmark, const PlanSource& plans, RankContext& context)
      : context_(context),
        images_(benchmark.model, benchmark.training.dtype, benchmark.training.batch_size / context.size(),
                benchmark.training.seed, context.device()) {
    if (benchmark.trains) {
      trainer_.emplace(benchmark.model, benchmark.training, plans, context);
    } else {
      classifier_.emplace(benchmark.model, benchmark.training, plans, context);
    }
    batch_ = images_.make(context.rank() * model().options().batch);
  }

  [[nodiscard]] SwinV2Moe& model() { return trainer_ ? trainer_->model() : classifier_->model(); }
  [[nodiscard]] std::int64_t optimizer_bytes() { return trainer_ ? trainer_->optimizer().state_bytes() : 0; }

  void run_blocking() {
    if (trainer_) {
      static_cast<void>(trainer_->step_blocking(batch_));
    } else {
      static_cast<void>(classifier_->infer_blocking(batch_.images));
    }
  }

  /// The longest of the ranks, which start together.
  double time_blocking() {
    std::array<std::int64_t, 1> word{};
    max_over_ranks_blocking(word, context_.control());
    const std::int64_t begin_ns = steady_now_ns();
    run_blocking();
    word[0] = steady_now_ns() - begin_ns;
    max_over_ranks_blocking(word, context_.control());
    return static_cast<double>(word[0]) * 1e-3;
  }

  [[nodiscard]] std::vector<OperationShare> operations_blocking() {
    OperationClock clock(context_.device());
    clock.start_blocking(trainer_ ? trainer_->stream() : classifier_->stream());
    set_clock(&clock);
    run_blocking();
    set_clock(nullptr);
    return clock.shares();
  }

 private:
  void set_clock(OperationClock* clock) {
    if (trainer_) {
      trainer_->set_clock(clock);
    } else {
      model().set_clock(clock);
    }
  }

  RankContext& context_;
  ProceduralImages images_;
  std::optional<Trainer> trainer_;
  std::optional<ImageClassifier> classifier_;
  ImageBatch batch_;
};

}  // namespace

ModelMeasurement benchmark_model(const ModelBenchmark& benchmark, const PlanSource& plans,
                                 RankContext& context, const std::function<void(int, int)>& progress) {
  require(benchmark.warmup >= 0 && benchmark.repeats >= 1, "{} repeats after {} of warm-up; at least 1 and 0",
          benchmark.repeats, benchmark.warmup);
  validate(benchmark.training, context.size());
  TimedModel model(benchmark, plans, context);
  const int total = benchmark.warmup + benchmark.repeats;
  ModelMeasurement measured;
  for (int i = 0; i < total; ++i) {
    const double step_us = model.time_blocking();
    if (i >= benchmark.warmup) measured.step_us.push_back(step_us);
    if (progress && context.rank() == 0) progress(i + 1, total);
  }
  measured.median_us = median_of(measured.step_us);
  measured.images_per_s = static_cast<double>(benchmark.training.batch_size) / (measured.median_us * 1e-6);
  measured.operations = model.operations_blocking();
  for (const ModelParameter& parameter : model.model().parameters().all()) {
    measured.parameter_bytes += parameter.value.bytes();
    if (parameter.gradient.present()) measured.parameter_bytes += parameter.gradient.bytes();
  }
  measured.optimizer_bytes = model.optimizer_bytes();
  measured.activation_bytes = model.model().activation_bytes();
  return measured;
}

double matrix_share(const ModelBenchmark& benchmark, double images_per_s, const DeviceCeilings& ceilings) {
  constexpr double kFlopsPerMac = 2;
  constexpr double kPassesOfTraining = 3;  // forward, gradients of activations, gradients of weights
  const ModelMoe& moe = benchmark.model.moe;
  const double macs =
      summarize(benchmark.model, benchmark.trains ? moe.training : moe.inference).multiply_accumulates();
  return kFlopsPerMac * macs * (benchmark.trains ? kPassesOfTraining : 1) * images_per_s /
         (ceilings.matrix_TFLOPs * 1e12);
}

std::vector<TraceLayer> trace_layers_of(const ModelConfig& model, const TrainingConfig& training, bool trains,
                                        int world) {
  std::vector<TraceLayer> layers;
  const Routing& routing = trains ? model.moe.training : model.moe.inference;
  for (const BlockPlace place : model.moe.blocks) {
    const auto index = static_cast<std::uint32_t>(layers.size());
    const MoeConfig config = moe_layer_config(model, place, training.dtype, index, training.seed);
    const ForwardCall call{.top_k = routing.top_k,
                           .capacity_factor = routing.capacity_factor,
                           .add_noise = trains && model.moe.add_noise,
                           .equal_tokens = true};
    const std::int64_t tokens = training.batch_size / world * model.map(place.stage).area();
    layers.push_back(trace_layer_of(config, call, tokens, world));
  }
  return layers;
}

}  // namespace flex
