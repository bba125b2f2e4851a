#include "bench/effectiveness_study.h"

#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "base/require.h"
#include "bench/effectiveness_images.h"
#include "kernels/host_element.h"
#include "models/data/procedural_set.h"
#include "models/image_classifier.h"
#include "models/trainer.h"
#include "runtime/launch.h"

namespace flex::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What the runs share. They meet between phases, so that all are timed under the load of all, and that
/// nobody allocates while others capture graphs.
struct StudyShared {
  StudyShared(const StudySettings& all_settings, const RenderedImages& train_images,
              const RenderedImages& validation_images, std::int64_t num_runs)
      : settings(all_settings), train(train_images), validation(validation_images), meeting(num_runs) {}

  /// Each says what a step takes it; all learn how many fit.
  std::int64_t agree_on_steps(double step_s) {
    {
      const std::scoped_lock lock(mutex);
      slowest_step_s = std::max(slowest_step_s, step_s);
    }
    meeting.arrive_and_wait();
    const std::scoped_lock lock(mutex);
    if (steps == 0) steps = steps_that_fit();  // once: time goes on
    return steps;
  }

  [[nodiscard]] std::int64_t steps_that_fit() const {
    // Evaluations are passes of a third of a step's work.
    const double passes = static_cast<double>(settings.validation_images / settings.batch_size) *
                          (2 * std::size(kStudyCapacities));
    constexpr double kReserve = 0.95;  // for steps that take longer than those that were timed
    const double left_s = 60 * settings.minutes - seconds_since(begin);
    const double fitting = kReserve * left_s / slowest_step_s - passes / 3;
    return std::max<std::int64_t>(1, static_cast<std::int64_t>(fitting));
  }

  const StudySettings& settings;
  const RenderedImages& train;
  const RenderedImages& validation;
  Clock::time_point begin;
  std::barrier<> meeting;
  std::mutex mutex;
  double slowest_step_s = 0;
  std::int64_t steps = 0;
  double calibrate_s = 0;
  std::exception_ptr failure;
};

std::int64_t predicted_class(const ConstTensorView& logits, std::int64_t sample) {
  const std::int64_t classes = logits.shape[1];
  std::int64_t best = 0;
  for (std::int64_t c = 1; c < classes; ++c) {
    if (host_element(logits, sample * classes + c) > host_element(logits, sample * classes + best)) best = c;
  }
  return best;
}

/// One model with one seed, on one rank.
class OneRun {
 public:
  OneRun(StudyShared& shared, RankContext& context, StudyRun& run)
      : shared_(shared), settings_(shared.settings), context_(context), run_(run) {}

  void run_blocking() {
    const std::int64_t steps = settings_.steps > 0 ? settings_.steps : calibrate();
    Trainer trainer(study_model(settings_, run_.experts), study_training(settings_, steps, run_.seed),
                    PlanSource{}, context_);
    shared_.meeting.arrive_and_wait();
    train(trainer);
    shared_.meeting.arrive_and_wait();
    evaluate_all(trainer);
    shared_.meeting.arrive_and_wait();
  }

 private:
  [[nodiscard]] std::int64_t calibrate() {
    constexpr int kWarmUp = 15;
    constexpr int kTimed = 25;
    const Clock::time_point begin = Clock::now();
    double step_s = 0;
    {
      Trainer trainer(study_model(settings_, run_.experts), study_training(settings_, 1000, run_.seed),
                      PlanSource{}, context_);
      TrainingBatches batches(shared_.train, settings_.batch_size, run_.seed, context_.device());
      shared_.meeting.arrive_and_wait();
      for (int i = 0; i < kWarmUp; ++i) static_cast<void>(trainer.step_blocking(batches.next()));
      shared_.meeting.arrive_and_wait();
      const Clock::time_point timed = Clock::now();
      for (int i = 0; i < kTimed; ++i) static_cast<void>(trainer.step_blocking(batches.next()));
      step_s = seconds_since(timed) / kTimed;
      shared_.meeting.arrive_and_wait();
    }
    const std::int64_t steps = shared_.agree_on_steps(step_s);
    const std::scoped_lock lock(shared_.mutex);
    shared_.calibrate_s = seconds_since(begin);
    return steps;
  }

  void train(Trainer& trainer) {
    const Clock::time_point begin = Clock::now();
    TrainingBatches batches(shared_.train, settings_.batch_size, run_.seed, context_.device());
    const std::int64_t steps = trainer.training().steps;
    const std::int64_t every = std::max<std::int64_t>(1, steps / 10);
    double sum = 0;
    for (std::int64_t step = 1; step <= steps; ++step) {
      sum += trainer.step_blocking(batches.next()).cross_entropy;
      if (step % every != 0) continue;
      run_.curve.push_back({.step = step, .cross_entropy = sum / static_cast<double>(every)});
      sum = 0;
      fmt::print(stderr, "{:6} seed {}  step {} of {}  cross entropy {:.3f}  {:.0f} s\n",
                 name_of_model(run_.experts), run_.seed, step, steps, run_.curve.back().cross_entropy,
                 seconds_since(shared_.begin));
    }
    run_.train_s = seconds_since(begin);
  }

  void evaluate_all(Trainer& trainer) {
    const Clock::time_point begin = Clock::now();
    if (run_.experts == 0) {
      run_.top1 = accuracy(trainer, {});
    } else {
      for (const double capacity : kStudyCapacities) {
        for (const bool prioritized : {true, false}) {
          const StudyRouting routing{.capacity_factor = capacity, .batch_prioritized = prioritized};
          run_.routed.push_back({.routing = routing, .top1 = accuracy(trainer, routing)});
          if (capacity == 1 && prioritized) run_.top1 = run_.routed.back().top1;
        }
      }
    }
    run_.evaluate_s = seconds_since(begin);
  }

  // Of the same weights in a model that is routed as `routing` says.
  [[nodiscard]] double accuracy(Trainer& trainer, const StudyRouting& routing) {
    ModelConfig config = trainer.model().config();
    config.moe.inference.capacity_factor = routing.capacity_factor;
    config.moe.batch_prioritized_routing = routing.batch_prioritized;
    ImageClassifier classifier(config, trainer.training(), PlanSource{}, context_);
    // A graph would not pay for itself, and others allocate at this time.
    for (PlannedLayer& layer : classifier.model().moe_layers()) layer.layer().set_graph_policy(kNoGraphs);
    for (const ModelParameter& parameter : trainer.model().parameters().all()) {
      Tensor whole(parameter.value.dtype, parameter.spec.shape);
      trainer.model().parameters().store_value(parameter.spec.name, whole);
      classifier.model().parameters().load(parameter.spec.name, whole);
    }
    StagedBatch batch(settings_.batch_size, kStudyImageSize, context_.device());
    std::int64_t right = 0;
    const std::int64_t count = shared_.validation.count();
    for (std::int64_t first = 0; first < count; first += settings_.batch_size) {
      for (std::int64_t i = 0; i < settings_.batch_size; ++i)
        stage_image(shared_.validation, first + i, i, 0, 0, batch);
      const ConstTensorView logits = classifier.infer_blocking(batch.images);
      for (std::int64_t i = 0; i < settings_.batch_size; ++i)
        right += predicted_class(logits, i) == shared_.validation.label(first + i) ? 1 : 0;
    }
    return static_cast<double>(right) / static_cast<double>(count);
  }

  StudyShared& shared_;
  const StudySettings& settings_;
  RankContext& context_;
  StudyRun& run_;
};

void run_one_blocking(StudyShared& shared, StudyRun& run) {
  constexpr std::chrono::minutes kDeadline{5};
  try {
    run_ranks({.world = 1, .ranks_per_node = 1}, kDeadline, [&](Communicator& world) {
      RankContext context(world, parse_device(shared.settings.device), {.allow_tf32 = true});
      OneRun(shared, context, run).run_blocking();
    });
  } catch (...) {
    const std::scoped_lock lock(shared.mutex);
    if (!shared.failure) shared.failure = std::current_exception();
    shared.meeting.arrive_and_drop();  // the others shall not wait for this one
  }
}

void check(const StudySettings& settings) {
  require(settings.validation_images % settings.batch_size == 0,
          "{} validation images are no whole number of batches of {}", settings.validation_images,
          settings.batch_size);
  require(settings.steps > 0 || settings.minutes > 0, "neither steps nor minutes are above 0");
}

}  // namespace

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

StudyResult run_study_blocking(const StudySettings& settings) {
  check(settings);
  const Clock::time_point begin = Clock::now();
  StudyResult result{.settings = settings};
  ProceduralSetOptions images{.num_images = settings.train_images,
                              .num_classes = settings.num_classes,
                              .image_size = kStudyImageSize,
                              .nuisance = settings.nuisance};
  const RenderedImages train(ProceduralSet(images), kStudyImageSize, settings.render_threads);
  images.num_images = settings.validation_images;
  images.split = 1;
  const RenderedImages validation(ProceduralSet(images), kStudyImageSize, settings.render_threads);
  result.render_s = seconds_since(begin);
  fmt::print(stderr, "{} images rendered in {:.1f} s\n", train.count() + validation.count(), result.render_s);
  for (const std::int64_t experts : settings.experts) {
    for (std::int64_t i = 0; i < settings.num_seeds; ++i)
      result.runs.push_back(
          {.experts = experts, .seed = settings.first_seed + static_cast<std::uint64_t>(i)});
  }
  StudyShared shared(settings, train, validation, static_cast<std::int64_t>(result.runs.size()));
  shared.begin = begin;
  {
    std::vector<std::jthread> threads;
    for (StudyRun& run : result.runs) threads.emplace_back([&] { run_one_blocking(shared, run); });
  }
  if (shared.failure) std::rethrow_exception(shared.failure);
  result.steps = settings.steps > 0 ? settings.steps : shared.steps;
  result.calibrate_s = shared.calibrate_s;
  result.total_s = seconds_since(begin);
  return result;
}

}  // namespace flex::bench
