#include "tests/support/paper_predictions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "costmodel/critical_path.h"
#include "costmodel/plan_space.h"
#include "costmodel/simulator.h"

namespace flex::testing {
namespace {

constexpr double kUsPerMs = 1e3;
constexpr double kUsPerS = 1e6;
constexpr AllToAllAlgorithm kAlgorithms[] = {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d};
constexpr Formulation kTutelLayout{.flexible_layout = false, .one_stream = true};
constexpr Formulation kFlexibleLayout{.one_stream = true};

Plan plan_of(AllToAllAlgorithm algorithm, std::int32_t d = 1) {
  return {.pipeline_degree = d, .all_to_all = algorithm};
}

struct LayerSizes {
  int gpus;
  std::int64_t tokens, model_dim, hidden_dim;
  double experts_per_gpu = 2;
};

/// k = 2, f = 1. What published software did not do is off: agreement on token counts, losses over all ranks.
LayerStack stack_of(const LayerSizes& sizes) {
  const auto experts = static_cast<std::int64_t>(sizes.gpus * sizes.experts_per_gpu);
  constexpr std::int64_t kTopK = 2;
  return {.workload = {.world = sizes.gpus,
                       .num_experts = experts,
                       .num_tokens = sizes.tokens,
                       .capacity = kTopK * ((sizes.tokens + experts - 1) / experts),
                       .top_k = kTopK,
                       .model_dim = sizes.model_dim,
                       .hidden_dim = sizes.hidden_dim,
                       .dtype = DType::kF32,
                       .global_loss_scope = false,
                       .agree_on_tokens = false},
          .cluster = load_cluster(kPaperCluster, sizes.gpus / 8)};
}

Simulation step(LayerStack stack, AllToAllAlgorithm algorithm, const Formulation& formulation,
                const CostParameters& parameters) {
  stack.forward = stack.backward = plan_of(algorithm);
  return simulate_formulation(stack, formulation, CostModel(stack.cluster, parameters));
}

double step_us(const LayerStack& stack, AllToAllAlgorithm algorithm, const Formulation& formulation,
               const CostParameters& parameters) {
  return step(stack, algorithm, formulation, parameters).total_us;
}

/// Of the scaling curves and the gains.
LayerStack scaling_stack(int gpus) {
  return stack_of({.gpus = gpus, .tokens = 16384, .model_dim = 2048, .hidden_dim = 2048});
}

/// Microseconds of one pass by plan: linear with d = 1, 2, 4, 8, then 2DH. d that is more than the slots is
/// left out: infinite.
std::array<double, 8> pass_us(LayerStack stack, Passes passes, const CostParameters& parameters) {
  const CostModel costs(stack.cluster, parameters);
  stack.passes = passes;
  PassSequence sequence;
  Simulator simulator;
  std::array<double, 8> us{};
  std::size_t i = 0;
  for (const AllToAllAlgorithm algorithm : kAlgorithms) {
    for (const std::int32_t d : kPipelineDegrees) {
      stack.forward = stack.backward = plan_of(algorithm, d);
      us[i] = std::numeric_limits<double>::infinity();
      if (is_legal(stack.forward, stack.workload, stack.cluster)) {
        sequence.build(stack);
        us[i] = simulator.run(sequence.passes(), costs).total_us;
      }
      ++i;
    }
  }
  return us;
}

double adaptive_us(const LayerStack& stack, const CostParameters& parameters) {
  return std::ranges::min(pass_us(stack, Passes::kForward, parameters)) +
         std::ranges::min(pass_us(stack, Passes::kBackward, parameters));
}

}  // namespace

std::vector<ComparedFigure> PaperPredictions::layer_shares() const {
  std::vector<ComparedFigure> figures;
  for (const LayerShares& published : kLayerShares) {
    const LayerStack stack =
        stack_of({.gpus = published.gpus, .tokens = 65536, .model_dim = 4096, .hidden_dim = 4096});
    const Simulation simulation =
        simulate_formulation(stack, kTutelLayout, CostModel(stack.cluster, parameters_));
    double compute_us = 0;
    double exchange_us = 0;
    for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
      const OperationKind kind = simulation.operations[i].operation.kind;
      const double us = simulation.costs[i].duration_us;
      if (kind == OperationKind::kAllToAll) exchange_us += us;
      if (group_of(kind) == OperationGroup::kNone) compute_us += us;
    }
    figures.push_back({.what = fmt::format("compute, {} GPUs, ms", published.gpus),
                       .published = published.compute_ms,
                       .predicted = compute_us / kUsPerMs,
                       .tolerance = 0.12,
                       .in_fit = true});
    figures.push_back({.what = fmt::format("All-to-All, {} GPUs, ms", published.gpus),
                       .published = published.all_to_all_ms,
                       .predicted = exchange_us / kUsPerMs,
                       .tolerance = 0.15,
                       .in_fit = true});
  }
  return figures;
}

std::vector<ScalingPrediction> PaperPredictions::scaling_curve() const {
  std::vector<ScalingPrediction> curve;
  for (int gpus = 16; gpus <= 2048; gpus *= 2) {
    const LayerStack stack = scaling_stack(gpus);
    const auto seconds = [&](AllToAllAlgorithm algorithm, const Formulation& formulation) {
      return step_us(stack, algorithm, formulation, parameters_) / kUsPerS;
    };
    curve.push_back({.gpus = gpus,
                     .deepspeed_s = seconds(AllToAllAlgorithm::kLinear, kFairseq),
                     .linear_s = seconds(AllToAllAlgorithm::kLinear, kTutelLayout),
                     .hierarchical_s = seconds(AllToAllAlgorithm::kHierarchical2d, kTutelLayout)});
  }
  return curve;
}

std::vector<ComparedFigure> PaperPredictions::scaling() const {
  constexpr double kTolerance = 0.2;
  // Published twice and differently: in the pipelining table 2DH is far slower at 16 GPUs.
  constexpr double kContradictedTolerance = 0.4;
  std::vector<ComparedFigure> figures;
  const std::vector<ScalingPrediction> curve = scaling_curve();
  for (std::size_t i = 0; i < kScaling.size(); ++i) {
    const ScalingPoint& published = kScaling[i];
    const auto add = [&](const char* software, double there, double here, double tolerance) {
      figures.push_back({.what = fmt::format("{}, {} GPUs, s", software, published.gpus),
                         .published = there,
                         .predicted = here,
                         .tolerance = tolerance,
                         .in_fit = true});
    };
    add("DeepSpeed", published.deepspeed_s, curve[i].deepspeed_s, kTolerance);
    add("Tutel, linear", published.linear_s, curve[i].linear_s, kTolerance);
    add("Tutel, 2DH", published.hierarchical_s, curve[i].hierarchical_s,
        published.gpus == 16 ? kContradictedTolerance : kTolerance);
  }
  return figures;
}

std::vector<BandPrediction> PaperPredictions::scaling_bands() const {
  CostParameters operations_only = parameters_;
  operations_only.pass_relative_error.fill(0);
  std::vector<BandPrediction> bands;
  for (const ScalingPoint& published : kScaling) {
    const LayerStack stack = scaling_stack(published.gpus);
    const auto add = [&](const char* software, double there_s, AllToAllAlgorithm algorithm,
                         const Formulation& formulation) {
      const Simulation simulation = step(stack, algorithm, formulation, operations_only);
      bands.push_back({.what = fmt::format("{}, {} GPUs", software, published.gpus),
                       .algorithm = algorithm,
                       .residual = {.predicted_us = simulation.total_us,
                                    .operations_band_us = critical_path(simulation).error_us,
                                    .measured_us = there_s * kUsPerS},
                       .band_us = critical_path(step(stack, algorithm, formulation, parameters_)).error_us});
    };
    add("DeepSpeed", published.deepspeed_s, AllToAllAlgorithm::kLinear, kFairseq);
    add("Tutel, linear", published.linear_s, AllToAllAlgorithm::kLinear, kTutelLayout);
    add("Tutel, 2DH", published.hierarchical_s, AllToAllAlgorithm::kHierarchical2d, kTutelLayout);
  }
  return bands;
}

double needed_pass_error(const std::vector<BandPrediction>& bands, AllToAllAlgorithm algorithm) {
  std::vector<PassResidual> residuals;
  for (const BandPrediction& band : bands) {
    if (band.algorithm == algorithm) residuals.push_back(band.residual);
  }
  return fit_pass_error(residuals, std::ssize(kScaling));
}

Gains PaperPredictions::gains(int gpus) const {
  const LayerStack stack = scaling_stack(gpus);
  const auto us = [&](AllToAllAlgorithm algorithm, const Formulation& formulation) {
    return step_us(stack, algorithm, formulation, parameters_);
  };
  const double fairseq = us(AllToAllAlgorithm::kLinear, kFairseq);
  const double kernels = us(AllToAllAlgorithm::kLinear, kTutelLayout);
  const double hierarchical = us(AllToAllAlgorithm::kHierarchical2d, kTutelLayout);
  const double flexible = us(AllToAllAlgorithm::kHierarchical2d, kFlexibleLayout);
  const double adaptive = adaptive_us(stack, parameters_);
  const bool small = gpus < 2048;  // where published without the steps between
  return {.gpus = gpus,
          .kernels = fairseq / kernels,
          .hierarchical = small ? 0 : kernels / hierarchical,
          .flexible = small ? 0 : hierarchical / flexible,
          .adaptive = (small ? kernels : flexible) / adaptive,
          .total = fairseq / adaptive};
}

std::vector<ComparedFigure> PaperPredictions::speedups() const {
  std::vector<ComparedFigure> totals;
  std::vector<ComparedFigure> steps;
  for (const Gains& published : kGains) {
    const Gains here = gains(published.gpus);
    const auto add = [&](const char* technique, double there, double predicted) {
      if (there == 0) return;
      steps.push_back({.what = fmt::format("gain of {}, {} GPUs", technique, published.gpus),
                       .published = there,
                       .predicted = predicted,
                       // At 2,048 they are in the objective with next to no weight, but their order counts.
                       .in_fit = published.gpus == 2048});
    };
    totals.push_back({.what = fmt::format("speedup over Fairseq, {} GPUs", published.gpus),
                      .published = published.total,
                      .predicted = here.total,
                      .tolerance = 0.15,
                      .in_fit = true});
    add("kernels", published.kernels, here.kernels);
    add("2DH", published.hierarchical, here.hierarchical);
    add("the Flexible layout", published.flexible, here.flexible);
    add("adaptive d and algorithm", published.adaptive, here.adaptive);
  }
  totals.insert(totals.end(), steps.begin(), steps.end());
  return totals;
}

std::vector<ComparedFigure> PaperPredictions::memory() const {
  std::vector<ComparedFigure> figures;
  for (const LayerGiB& published : kLayerGiB) {
    const Workload workload{.world = 1,
                            .num_experts = 2,
                            .num_tokens = published.tokens,
                            .capacity = published.tokens,
                            .top_k = 2,
                            .model_dim = 4096,
                            .hidden_dim = 4096,
                            .dtype = DType::kF32};
    const auto add = [&](const char* software, double there, const Formulation& formulation, bool in_fit) {
      const FrameworkMemory memory = framework_memory(workload, formulation, parameters_.base_memory_GiB);
      figures.push_back({.what = fmt::format("{}, {} tokens, GiB", software, published.tokens),
                         .published = there,
                         .predicted = static_cast<double>(memory.total_bytes()) / kBytesPerGiB,
                         .tolerance = 0.2,
                         .in_fit = in_fit});
    };
    add("Fairseq", published.fairseq_GiB, kFairseq, false);
    add("Tutel", published.tutel_GiB, {}, true);
  }
  return figures;
}

PipeliningPrediction PaperPredictions::pipelining(const PipeliningGains& published) const {
  PipeliningPrediction prediction{.gpus = published.gpus};
  int num_settings = 0;
  for (const double experts : {0.5, 1.0, 2.0}) {
    for (const std::int64_t model_dim : {1024, 2048, 4096}) {
      for (const std::int64_t hidden_dim : {1024, 2048, 4096}) {
        for (const std::int64_t tokens : {4096, 16384, 65536}) {
          const LayerStack stack = stack_of({published.gpus, tokens, model_dim, hidden_dim, experts});
          const std::array<double, 8> forward = pass_us(stack, Passes::kForward, parameters_);
          const std::array<double, 8> backward = pass_us(stack, Passes::kBackward, parameters_);
          const double best = std::ranges::min(forward) + std::ranges::min(backward);
          for (std::size_t i = 0; i < forward.size(); ++i) {
            prediction.percent[i] += 100 * ((forward[i] + backward[i]) / best - 1);
          }
          ++num_settings;
        }
      }
    }
  }
  for (double& percent : prediction.percent) percent /= num_settings;
  constexpr double kDifferent = 3;  // percentage points
  for (std::size_t i = 0; i < prediction.percent.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const double there = published.percent[i] - published.percent[j];
      if (std::abs(there) < kDifferent) continue;
      ++prediction.pairs;
      prediction.right_order += there * (prediction.percent[i] - prediction.percent[j]) > 0 ? 1 : 0;
    }
  }
  return prediction;
}

bool ScalingPrediction::is_on_the_right_side() const {
  if (gpus == 16) return true;
  if (gpus == 256) return std::abs(ratio() - 1) <= kTie;
  return (gpus >= kHierarchicalWinsFrom) == (ratio() < 1);
}

std::vector<std::string> broken_lines(const PaperPredictions& predictions) {
  std::vector<std::string> broken;
  for (const auto& figures :
       {predictions.layer_shares(), predictions.scaling(), predictions.speedups(), predictions.memory()}) {
    for (const ComparedFigure& figure : figures) {
      if (!figure.holds()) broken.push_back(figure.what);
    }
  }
  for (const ScalingPrediction& point : predictions.scaling_curve()) {
    if (!point.is_on_the_right_side()) broken.push_back(fmt::format("2DH / linear, {} GPUs", point.gpus));
  }
  const Gains large = predictions.gains(2048);
  if (large.hierarchical <= large.flexible || large.flexible <= large.adaptive) {
    broken.emplace_back("order of gains, 2048 GPUs");
  }
  if (large.hierarchical < kLeastGainOfHierarchical) broken.emplace_back("gain of 2DH, 2048 GPUs");
  for (const PipeliningGains& published : kPipelining) {
    if (!predictions.pipelining(published).holds()) {
      broken.push_back(fmt::format("pipelining, {} GPUs", published.gpus));
    }
  }
  return broken;
}

}  // namespace flex::testing
