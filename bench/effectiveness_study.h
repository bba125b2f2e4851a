#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "models/training_config.h"

/// The effectiveness study: models that differ in their number of experts alone, trained alike.
namespace flex::bench {

/// What all runs have in common, and which there are.
struct StudySettings {
  std::string device = "cuda:0";
  DType dtype = DType::kBF16;
  std::vector<std::int64_t> experts = {0, 2, 4, 8};  ///< E of each model; 0: dense
  std::int64_t num_seeds = 3;
  std::uint64_t first_seed = 1;

  std::int64_t embed_dim = 16;
  std::vector<std::int64_t> depths = {2, 2, 4, 2};
  std::int64_t mlp_ratio = 4;
  std::string gate = "cosine";
  double loss_weight = 0.01;

  std::int64_t steps = 0;  ///< 0: as many as fit into `minutes`
  double minutes = 7;      ///< of the whole program
  std::int64_t batch_size = 256;
  double learning_rate = 2e-3;
  std::int64_t num_classes = 400;
  double nuisance = 1;  ///< of the images
  std::int64_t train_images = 400'000;
  std::int64_t validation_images = 10'240;
  int render_threads = 1;
};

inline constexpr std::int64_t kStudyImageSize = 64;

/// MoE layers in the odd blocks of the last two stages, k = 1 and f = 1: a token costs what it costs in the
/// dense model. `experts` 0: the dense model.
[[nodiscard]] ModelConfig study_model(const StudySettings& settings, std::int64_t experts);
[[nodiscard]] TrainingConfig study_training(const StudySettings& settings, std::int64_t steps,
                                            std::uint64_t seed);
/// dense, E = 2, ...
[[nodiscard]] std::string name_of_model(std::int64_t experts);

/// How tokens are routed in an evaluation of a MoE model.
struct StudyRouting {
  double capacity_factor = 1;
  bool batch_prioritized = true;
};
/// Every capacity factor that is evaluated, the largest first.
inline constexpr double kStudyCapacities[] = {1.25, 1.0, 0.5, 0.25};

struct RoutedAccuracy {
  StudyRouting routing;
  double top1 = 0;  ///< share of the validation images
};

/// What training looked like on the way.
struct CurvePoint {
  std::int64_t step = 0;
  double cross_entropy = 0;  ///< mean since the point before, smoothed labels included
};

/// One model and seed.
struct StudyRun {
  std::int64_t experts = 0;
  std::uint64_t seed = 0;
  double top1 = 0;                       ///< as trained: f = 1 with batch-prioritized routing
  std::vector<RoutedAccuracy> routed{};  ///< empty for a dense model
  std::vector<CurvePoint> curve{};
  double train_s = 0;
  double evaluate_s = 0;
};

/// Where the time went, and what came out.
struct StudyResult {
  StudySettings settings;
  std::int64_t steps = 0;
  double render_s = 0;
  double calibrate_s = 0;
  double total_s = 0;
  std::vector<StudyRun> runs;  ///< by model, then by seed
};

/// Renders the images, then trains and evaluates all models at once: each is a thread with a rank of its own,
/// because models as small as these are bound by launches. Writes a line for each tenth of a run to stderr.
/// @throws what a run threw, once all have ended.
[[nodiscard]] StudyResult run_study_blocking(const StudySettings& settings);

}  // namespace flex::bench
