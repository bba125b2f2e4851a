#include "costmodel/calibration.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include "base/philox.h"
#include "base/require.h"
#include "costmodel/calibration_fit.h"
#include "costmodel/cost_parameter_fields.h"
#include "costmodel/error_band.h"
#include "costmodel/operation_roofline.h"
#include "costmodel/simulation.h"

namespace flex {
namespace {

/// Points of one fold are all points of some sizes: repeats of what was fitted would be no test.
std::vector<int> deal_folds(std::span<const FitPoint> points, const CalibrationSettings& settings) {
  std::map<Sizes, int> folds;
  for (const FitPoint& point : points) folds[sizes_of(point.work)] = 0;
  std::map<OperationKind, std::vector<int*>> by_kind;
  for (auto& [sizes, fold] : folds) by_kind[std::get<0>(sizes)].push_back(&fold);
  PhiloxStream random(settings.seed);
  for (auto& [kind, mine] : by_kind) {
    for (std::size_t i = mine.size(); i > 1; --i) {
      std::swap(mine[i - 1], mine[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
    }
    for (std::size_t i = 0; i < mine.size(); ++i) *mine[i] = static_cast<int>(i) % settings.num_folds;
  }
  std::vector<int> dealt;
  dealt.reserve(points.size());
  for (const FitPoint& point : points) dealt.push_back(folds[sizes_of(point.work)]);
  return dealt;
}

using ByKind = std::array<std::vector<FitPoint>, kNumOperationKinds>;
ByKind by_kind(std::span<const FitPoint> points) {
  ByKind kinds;
  for (const FitPoint& point : points) kinds[static_cast<std::size_t>(point.work.kind)].push_back(point);
  return kinds;
}

/// Errors of held-out points, with what all kinds share and with each kind's own parameters.
struct HeldOut {
  std::array<std::vector<double>, kNumOperationKinds> shared, own;
};

void hold_out(HeldOut& errors, const Cluster& cluster, std::span<const FitPoint> fitted,
              std::span<const FitPoint> held, const CostParameters& start,
              const CalibrationSettings& settings) {
  const SharedFit fit = fit_shared(cluster, fitted, start, settings.huber_threshold);
  const OperationRoofline roofline(cluster, fit.parameters);
  const ByKind fitted_kinds = by_kind(fitted);
  const ByKind held_kinds = by_kind(held);
  for (std::size_t kind = 0; kind < kNumOperationKinds; ++kind) {
    const bool has_own = fitted_kinds[kind].size() >= 2;
    const KindParameters own =
        has_own ? fit_kind(roofline, fitted_kinds[kind], settings.huber_threshold) : KindParameters{};
    for (const FitPoint& point : held_kinds[kind]) {
      const double variable_us = roofline.variable_us(point.work);
      const double shared_us = roofline.fixed_us(point.work) + variable_us;
      const double own_us = has_own ? own.fixed_us + own.time_factor * variable_us : shared_us;
      errors.shared[kind].push_back(std::abs(relative_residual(shared_us, point)));
      errors.own[kind].push_back(std::abs(relative_residual(own_us, point)));
    }
  }
}

HeldOut hold_out_folds(const Cluster& cluster, std::span<const FitPoint> points, const CostParameters& start,
                       const CalibrationSettings& settings) {
  const std::vector<int> folds = deal_folds(points, settings);
  HeldOut errors;
  for (int fold = 0; fold < settings.num_folds; ++fold) {
    std::vector<FitPoint> fitted;
    std::vector<FitPoint> held;
    for (std::size_t i = 0; i < points.size(); ++i) (folds[i] == fold ? held : fitted).push_back(points[i]);
    if (!fitted.empty() && !held.empty()) hold_out(errors, cluster, fitted, held, start, settings);
  }
  return errors;
}

void fit_kinds(CalibrationResult& result, const Cluster& cluster, std::span<const FitPoint> points,
               const HeldOut& errors, const CalibrationSettings& settings) {
  // Own parameters must earn their place: by a tenth, so that chance alone seldom does.
  constexpr double kBetter = 0.9;
  const OperationRoofline roofline(cluster, result.parameters);
  const ByKind kinds = by_kind(points);
  for (std::size_t kind = 0; kind < kNumOperationKinds; ++kind) {
    KindFit& fit = result.kinds[kind];
    fit.num_samples = static_cast<std::int64_t>(kinds[kind].size());
    if (errors.shared[kind].empty()) continue;
    const double shared = quantile(errors.shared[kind], 0.5);
    const double own = quantile(errors.own[kind], 0.5);
    fit.own_parameters = fit.num_samples >= settings.min_kind_samples && own < kBetter * shared;
    fit.median_error = fit.own_parameters ? own : shared;
    fit.p95_error = quantile(fit.own_parameters ? errors.own[kind] : errors.shared[kind], 0.95);
    fit.band = quantile(fit.own_parameters ? errors.own[kind] : errors.shared[kind], kBandQuantile);
    result.parameters.relative_error[kind] = fit.band;
    if (fit.own_parameters) {
      result.parameters.kinds[kind] = fit_kind(roofline, kinds[kind], settings.huber_threshold);
    }
  }
}

/// By kind, what the host needed on average: like one kernel or collective after the other, whatever its
/// size.
void fit_issue(CostParameters& parameters, std::span<const CostSample> samples) {
  std::array<std::vector<double>, kNumOperationKinds> issue_us;
  for (const CostSample& sample : samples) {
    if (sample.issue_ns <= 0 || sample.beside != Beside::kNothing) continue;
    issue_us[static_cast<std::size_t>(sample.kind)].push_back(static_cast<double>(sample.issue_ns) / 1e3);
  }
  for (std::size_t kind = 0; kind < issue_us.size(); ++kind) {
    if (issue_us[kind].empty()) continue;
    parameters.issue_us[kind] = std::accumulate(issue_us[kind].begin(), issue_us[kind].end(), 0.0) /
                                static_cast<double>(issue_us[kind].size());
  }
}

/// What operations did beside the other stream, added up over samples.
struct BesideTimes {
  double beside_us = 0;  ///< how long that was
  double alone_us = 0;   ///< how long the same work takes alone

  /// Long operations count for more: one that waits for a core is late by what the other stream keeps it for,
  /// not by a factor, so that short ones alone would say anything.
  [[nodiscard]] double slowdown() const {
    constexpr double kLargest = 100;  // nothing was done beside the other stream but for noise
    return std::clamp(beside_us / std::max(alone_us, beside_us / kLargest), 1.0, kLargest);
  }
};

/// Slowdowns: time beside the other stream over the time that the same work takes alone. The rest of an
/// operation that was beside it for a part only went on as if alone.
void fit_overlap(CalibrationResult& result, const Cluster& cluster, std::span<const CostSample> samples,
                 std::span<const FitPoint> alone) {
  std::map<Sizes, std::vector<double>> durations;
  for (const FitPoint& point : alone) durations[sizes_of(point.work)].push_back(point.measured_us);
  const OperationRoofline roofline(cluster, result.parameters);
  std::map<std::pair<AllToAllAlgorithm, Beside>, BesideTimes> times;
  for (const CostSample& sample : samples) {
    const bool communication = is_communication(sample.kind);
    if (sample.beside != (communication ? Beside::kCompute : Beside::kCommunication)) continue;
    if (sample.duration_ns <= 0) continue;
    const OperationWork work = work_of(sample);
    const auto found = durations.find(sizes_of(work));
    const double alone_us =
        found == durations.end() ? roofline.duration_us(work) : quantile(found->second, 0.5);
    const auto duration_us = static_cast<double>(sample.duration_ns) / 1e3;
    const double beside_us = sample.beside_ns > 0 ? static_cast<double>(sample.beside_ns) / 1e3 : duration_us;
    BesideTimes& sum = times[{sample.algorithm, sample.beside}];
    sum.beside_us += beside_us;
    // One that was held up for longer than it takes did no less than nothing beside the other stream.
    sum.alone_us += std::max(alone_us - (duration_us - beside_us), 0.0);
    ++result.num_overlap_samples;
  }
  for (const auto algorithm : {AllToAllAlgorithm::kLinear, AllToAllAlgorithm::kHierarchical2d}) {
    const bool linear = algorithm == AllToAllAlgorithm::kLinear;
    OverlapSlowdown& slowdown = linear ? result.parameters.linear : result.parameters.hierarchical;
    const std::string section = linear ? "overlap_linear." : "overlap_2dh.";
    for (const Beside beside : {Beside::kCommunication, Beside::kCompute}) {
      const auto found = times.find({algorithm, beside});
      const bool compute = beside == Beside::kCommunication;
      if (found == times.end()) {
        result.kept.push_back(section + (compute ? "compute_factor" : "communication_factor"));
        continue;
      }
      (compute ? slowdown.compute : slowdown.communication) = found->second.slowdown();
    }
  }
}

}  // namespace

std::vector<OperationKind> CalibrationResult::kinds_without_samples() const {
  std::vector<OperationKind> without;
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    if (kinds[kind].num_samples == 0) without.push_back(static_cast<OperationKind>(kind));
  }
  return without;
}

CalibrationResult calibrate(const Cluster& cluster, std::span<const CostSample> samples,
                            const CostParameters& start, const CalibrationSettings& settings) {
  require(settings.num_folds >= 2, "{} folds; at least 2 hold samples out", settings.num_folds);
  require(settings.huber_threshold > 0, "a Huber threshold of {}; it is above 0", settings.huber_threshold);
  require(settings.min_kind_samples >= 2, "parameters of a kind from {} samples; it takes at least 2",
          settings.min_kind_samples);
  std::vector<FitPoint> points;
  for (const CostSample& sample : samples) {
    if (!is_usable_alone(sample)) continue;
    points.push_back({.work = work_of(sample), .measured_us = static_cast<double>(sample.duration_ns) / 1e3});
  }
  require(!points.empty(),
          "none of {} samples can be used: a calibration needs operations that were measured alone and took "
          "more than 0 ns",
          samples.size());
  // Independent of the order in which they came, to the bit.
  std::ranges::sort(points, [](const FitPoint& a, const FitPoint& b) {
    return std::tuple(sizes_of(a.work), a.measured_us) < std::tuple(sizes_of(b.work), b.measured_us);
  });
  CalibrationResult result{.num_samples = static_cast<std::int64_t>(points.size())};
  SharedFit fit = fit_shared(cluster, points, start, settings.huber_threshold);
  result.parameters = fit.parameters;
  result.parameters.relative_error = CostParameters{}.relative_error;
  result.kept = std::move(fit.kept);
  fit_kinds(result, cluster, points, hold_out_folds(cluster, points, start, settings), settings);
  fit_overlap(result, cluster, samples, points);
  fit_issue(result.parameters, samples);
  for (int i = 0; i < kNumAllToAllAlgorithms; ++i) {
    result.kept.push_back(pass_error_key(static_cast<AllToAllAlgorithm>(i)));
  }
  return result;
}

Calibration to_calibration(const CalibrationResult& result, const Cluster& cluster,
                           const std::string& source) {
  return {.cluster = cluster.name,
          .description = fmt::format("Fitted to {} samples of operations alone and {} beside others",
                                     result.num_samples, result.num_overlap_samples),
          .fitted = true,
          .source = source,
          .parameters = result.parameters};
}

}  // namespace flex
