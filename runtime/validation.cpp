#include "runtime/validation.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

#include "base/require.h"
#include "costmodel/accuracy.h"
#include "costmodel/error_band.h"
#include "costmodel/pass_calibration.h"
#include "costmodel/pass_predictor.h"
#include "runtime/bind_thread.h"
#include "runtime/environment.h"
#include "runtime/launch.h"
#include "runtime/local_cluster.h"

namespace flex {
namespace {

/// Measured and predicted times of one kind of operation, by pass.
struct KindTimes {
  std::vector<double> errors;
  double measured_us = 0;
};

LayerStack stack_of(const MeasuredPass& measured, DType dtype, const Cluster& cluster) {
  return {.workload = workload_of(measured.pair.shape, dtype, cluster.world()),
          .forward = measured.pair.plan,
          .backward = measured.pair.plan,
          .cluster = cluster,
          .passes = measured.pass == Pass::kForward ? Passes::kForward : Passes::kBackward};
}

/// Runs the model over the passes of a recording.
class Predictor {
 public:
  Predictor(const ValidationRecording& recording, const Cluster& cluster, const OperationCosts& costs)
      : dtype_(recording.dtype), cluster_(cluster), costs_(costs) {}

  PassPrediction predict(const MeasuredPass& measured) {
    const PassTime time = predictor_.predict(stack_of(measured, dtype_, cluster_), costs_);
    add_kinds(measured, predictor_.alone());
    return {.measured = measured, .predicted_us = time.total_us, .band_us = time.error_us};
  }

  [[nodiscard]] std::vector<KindError> kinds() const {
    double total_us = 0;
    for (const KindTimes& times : kinds_) total_us += times.measured_us;
    std::vector<KindError> errors;
    for (std::size_t i = 0; i < kinds_.size(); ++i) {
      if (kinds_[i].errors.empty()) continue;
      errors.push_back({.kind = static_cast<OperationKind>(i),
                        .num_passes = static_cast<int>(kinds_[i].errors.size()),
                        .median_error = median(kinds_[i].errors),
                        .share = kinds_[i].measured_us / total_us});
    }
    std::ranges::sort(errors, [](const KindError& a, const KindError& b) {
      return a.share != b.share ? a.share > b.share : a.kind < b.kind;
    });
    return errors;
  }

 private:
  void add_kinds(const MeasuredPass& measured, const Simulation& simulation) {
    std::array<double, kNumOperationKinds> predicted_us{};
    for (std::size_t i = 0; i < simulation.operations.size(); ++i) {
      predicted_us[static_cast<std::size_t>(simulation.operations[i].operation.kind)] +=
          simulation.costs[i].duration_us;  // rank 0's
    }
    for (const KindTime& kind : measured.kinds) {
      if (kind.us <= 0) continue;
      KindTimes& times = kinds_[static_cast<std::size_t>(kind.kind)];
      times.errors.push_back(relative_error(predicted_us[static_cast<std::size_t>(kind.kind)], kind.us));
      times.measured_us += kind.us;
    }
  }

  DType dtype_;
  const Cluster& cluster_;
  const OperationCosts& costs_;
  PassPredictor predictor_;
  std::array<KindTimes, kNumOperationKinds> kinds_;
};

std::vector<ShapeOrder> orders_of(std::span<const PassPrediction> predictions) {
  std::vector<ShapeOrder> orders;
  std::vector<std::vector<Alternative>> alternatives;
  for (const PassPrediction& prediction : predictions) {
    const MeasuredPass& measured = prediction.measured;
    const auto same = [&](const ShapeOrder& order) {
      return order.shape == measured.pair.shape && order.pass == measured.pass;
    };
    auto found = std::ranges::find_if(orders, same);
    if (found == orders.end()) {
      found = orders.insert(orders.end(), {.shape = measured.pair.shape, .pass = measured.pass});
      alternatives.emplace_back();
    }
    alternatives[static_cast<std::size_t>(found - orders.begin())].push_back(
        {.predicted = prediction.predicted_us, .measured = measured.median_us, .spread = measured.spread_us});
  }
  for (std::size_t i = 0; i < orders.size(); ++i) {
    orders[i].num_plans = static_cast<int>(alternatives[i].size());
    orders[i].tau = kendall_tau_b(alternatives[i]);
    orders[i].regret = regret(alternatives[i]);
  }
  return orders;
}

double mean(std::span<const double> values) {
  return values.empty()
             ? 0
             : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> errors_of(std::span<const PassPrediction> predictions, std::optional<Pass> pass = {}) {
  std::vector<double> errors;
  for (const PassPrediction& prediction : predictions) {
    if (!pass || prediction.measured.pass == *pass) errors.push_back(prediction.relative_error());
  }
  return errors;
}

double median_or_none(std::span<const double> errors) { return errors.empty() ? 0 : median(errors); }

}  // namespace

double PassPrediction::relative_error() const {
  return flex::relative_error(predicted_us, measured.median_us);
}

Cluster cluster_of(const ValidationRecording& recording) {
  const Device device = recording.is_gpu ? Device::cuda(0) : Device::cpu();
  return local_cluster({recording.world, recording.ranks_per_node}, device, recording.host_cores);
}

CostModel calibrated_costs(const ValidationRecording& recording, const Cluster& cluster, bool with_table) {
  std::vector<PassSample> passes;
  for (const MeasuredPass& measured : recording.calibration_passes) {
    passes.push_back({stack_of(measured, recording.dtype, cluster), measured.median_us});
  }
  const CostParameters start = default_calibration(cluster).parameters;
  const CostParameters fitted = calibrate_with_passes(cluster, recording.samples, passes, start).parameters;
  if (!with_table) return {cluster, fitted};
  return {cluster, fitted, CostTable(recording.samples, OperationRoofline(cluster, fitted))};
}

ValidationRecording record_validation(const ValidationSettings& settings, const BudgetProgress& progress) {
  require(settings.world >= 1 && settings.num_pairs >= 1 && settings.num_calibration_shapes >= 1,
          "a validation of {} pairs on {} ranks after {} shapes; each is at least 1", settings.num_pairs,
          settings.world, settings.num_calibration_shapes);
  constexpr auto kDeadline = std::chrono::minutes(2);
  const Topology topology{settings.world, settings.world};
  const bool on_gpu = settings.device.is_cuda();
  // Makes the context of a GPU before any deadline begins, and ends CUPTI when no rank calls CUDA any more.
  const std::unique_ptr<RangeSource> keeper = make_range_source(settings.device, settings.clock, 0, 0);
  ValidationRecording recording{.device = device_name(settings.device),
                                .is_gpu = on_gpu,
                                .host_cores = static_cast<int>(std::thread::hardware_concurrency()),
                                .world = settings.world,
                                .ranks_per_node = settings.world,
                                .dtype = settings.dtype,
                                .seed = settings.seed};
  const OperationSettings operations{.device = recording.device,
                                     .source = "validation",
                                     .clock = settings.clock,
                                     .ranks_per_device = on_gpu ? settings.world : 1};
  const ProfileSettings profile{
      .shapes = draw_shapes(settings.num_calibration_shapes, settings.world, settings.range, settings.seed),
      .dtype = settings.dtype,
      .plans_per_shape = settings.plans_per_calibration_shape,
      .seed = settings.seed,
      .operations = operations};
  const std::vector<MeasuredPair> pairs =
      draw_pairs(settings.num_pairs, cluster_of(topology), settings.dtype, settings.range, settings.seed + 1,
                 profile.shapes, settings.plans_per_shape);
  run_ranks(topology, kDeadline, [&](Communicator& world) {
    if (!on_gpu) bind_this_thread(world.rank());
    RankContext context(world, settings.device);
    Stream stream(context.device());
    ProfileSweep sweep(profile, context, stream);
    PassMeasurement measurement(
        pairs, {.dtype = settings.dtype, .seed = settings.seed + 1, .operations = operations}, context,
        stream);
    const Rounds rounds = run_rounds(
        settings.budget_s, settings.min_rounds, context,
        [&] {
          sweep.run_round_blocking();
          measurement.run_round_blocking();
        },
        progress);
    if (world.rank() != 0) return;
    recording.rounds = rounds.count;
    recording.samples = sweep.samples();
    recording.calibration_passes = sweep.passes();
    recording.passes = measurement.passes();
    recording.held_out = measurement.samples();
  });
  return recording;
}

OperationReport compare_operations(const ValidationRecording& recording, const CostModel& costs) {
  std::array<KindTimes, kNumOperationKinds> kinds;
  std::vector<double> compute_errors;
  double total_us = 0;
  for (const CostSample& sample : recording.held_out) {
    if (!is_usable_alone(sample)) continue;
    const double measured_us = static_cast<double>(sample.duration_ns) / 1e3;
    const double error = relative_error(costs.cost_of(work_of(sample)).duration_us, measured_us);
    KindTimes& mine = kinds[static_cast<std::size_t>(sample.kind)];
    mine.errors.push_back(error);
    mine.measured_us += measured_us;
    total_us += measured_us;
    if (!is_communication(sample.kind)) compute_errors.push_back(error);
  }
  OperationReport report{.num_compute = static_cast<int>(compute_errors.size()),
                         .compute_mean_error = mean(compute_errors),
                         .compute_median_error = median_or_none(compute_errors)};
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    const KindTimes& mine = kinds[kind];
    if (mine.errors.empty()) continue;
    report.kinds.push_back({.kind = static_cast<OperationKind>(kind),
                            .num_samples = static_cast<int>(mine.errors.size()),
                            .mean_error = mean(mine.errors),
                            .median_error = median(mine.errors),
                            .p95_error = quantile(mine.errors, 0.95),
                            .share = mine.measured_us / total_us});
  }
  std::ranges::sort(report.kinds, [](const OperationError& a, const OperationError& b) {
    return a.share != b.share ? a.share > b.share : a.kind < b.kind;
  });
  return report;
}

ValidationReport compare_with_execution(const ValidationRecording& recording, const Cluster& cluster,
                                        const OperationCosts& costs) {
  require(!recording.passes.empty(), "there is no pass to compare predictions with");
  ValidationReport report;
  Predictor predictor(recording, cluster, costs);
  double within = 0;
  for (const MeasuredPass& measured : recording.passes) {
    const PassPrediction& prediction = report.passes.emplace_back(predictor.predict(measured));
    within += std::abs(prediction.predicted_us - measured.median_us) <= prediction.band_us ? 1 : 0;
  }
  report.orders = orders_of(report.passes);
  report.kinds = predictor.kinds();
  report.mean_error = mean(errors_of(report.passes));
  report.median_error = median_or_none(errors_of(report.passes));
  report.forward_error = median_or_none(errors_of(report.passes, Pass::kForward));
  report.backward_error = median_or_none(errors_of(report.passes, Pass::kBackward));
  std::vector<double> taus;
  std::vector<double> regrets;
  for (const ShapeOrder& order : report.orders) {
    if (order.tau) taus.push_back(*order.tau);
    regrets.push_back(order.regret);
  }
  report.mean_tau = mean(taus);
  report.mean_regret = mean(regrets);
  report.max_regret = std::ranges::max(regrets);
  report.within_band = within / static_cast<double>(recording.passes.size());
  return report;
}

ValidationRun evaluate_validation(ValidationRecording recording, bool with_table) {
  const Cluster cluster = cluster_of(recording);
  const CostModel costs = calibrated_costs(recording, cluster, with_table);
  ValidationReport report = compare_with_execution(recording, cluster, costs);
  OperationReport operations = compare_operations(recording, costs);
  return {.recording = std::move(recording),
          .cluster = cluster,
          .costs = costs,
          .report = std::move(report),
          .operations = std::move(operations)};
}

ValidationRun validate_prediction(const ValidationSettings& settings, const BudgetProgress& progress,
                                  bool with_table) {
  return evaluate_validation(record_validation(settings, progress), with_table);
}

}  // namespace flex
