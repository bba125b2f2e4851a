#include "runtime/pass_measurement.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/philox.h"
#include "costmodel/accuracy.h"
#include "costmodel/plan_space.h"
#include "runtime/timed_layer.h"

namespace flex {
namespace {

/// One pair, with the repeats of its passes.
struct Case {
  TimedLayer* layer = nullptr;
  MeasuredPair pair;
  MeasuredOperations operations;
  std::array<std::vector<double>, 2> passes_us{};  // by pass, one value for each repeat
};

}  // namespace

std::vector<MeasuredPair> draw_pairs(int count, const Cluster& cluster, DType dtype, const WorkRange& range,
                                     std::uint64_t seed, std::span<const LayerShape> taken,
                                     std::optional<int> plans_per_shape) {
  PhiloxStream random(seed, 1);  // shapes draw from stream 0
  std::vector<MeasuredPair> pairs;
  for (const LayerShape& shape : draw_shapes(count, cluster.world(), range, seed, taken)) {
    std::vector<Plan> plans = PlanSpace(workload_of(shape, dtype, cluster.world()), cluster).plans();
    const auto left = static_cast<std::size_t>(
        std::min(count - static_cast<int>(pairs.size()), plans_per_shape.value_or(count)));
    for (std::size_t i = 0; plans.size() > left && i < left; ++i) {
      std::swap(
          plans[i],
          plans[i + static_cast<std::size_t>(random.below(static_cast<std::int64_t>(plans.size() - i)))]);
    }
    plans.resize(std::min(plans.size(), left));
    for (const Plan& plan : plans) pairs.push_back({shape, plan});
  }
  return pairs;
}

MeasuredPass measured_pass(const MeasuredPair& pair, Pass pass, std::span<const double> repeats_us) {
  return {.pair = pair,
          .pass = pass,
          .median_us = median(repeats_us),
          .spread_us = median_absolute_deviation(repeats_us)};
}

struct PassMeasurement::Impl {
  std::vector<std::unique_ptr<TimedLayer>> layers;
  std::vector<Case> cases;

  static void time(Case& the_case);
};

PassMeasurement::PassMeasurement(std::span<const MeasuredPair> pairs, const PassMeasurementSettings& settings,
                                 RankContext& context, Stream& stream)
    : impl_(std::make_unique<Impl>()) {
  for (const MeasuredPair& pair : pairs) {
    if (impl_->cases.empty() || impl_->cases.back().pair.shape != pair.shape) {
      const auto index = static_cast<std::uint64_t>(impl_->layers.size());
      impl_->layers.push_back(std::make_unique<TimedLayer>(pair.shape, settings.dtype, settings.seed + index,
                                                           context, stream, settings.operations.clock));
      impl_->layers.back()->set_graph_policy(kNoGraphs);
    }
    TimedLayer& layer = *impl_->layers.back();
    impl_->cases.push_back({.layer = &layer,
                            .pair = pair,
                            .operations = {layer, {pair.plan, pair.plan}, context, settings.operations}});
  }
}

PassMeasurement::~PassMeasurement() = default;

void PassMeasurement::Impl::time(Case& the_case) {
  const PassTimes times = the_case.layer->time_slowest_blocking({the_case.pair.plan, the_case.pair.plan});
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    the_case.passes_us[static_cast<std::size_t>(pass)].push_back(times.us(pass));
  }
}

void PassMeasurement::run_round_blocking() {
  constexpr int kRepeats = 2;
  for (Case& the_case : impl_->cases) {
    // Caches and memory are another case's until it has run once.
    static_cast<void>(the_case.layer->time_blocking({the_case.pair.plan, the_case.pair.plan}));
    for (int repeat = 0; repeat < kRepeats; ++repeat) Impl::time(the_case);
    the_case.operations.measure_alone_blocking();
  }
}

std::vector<MeasuredPass> PassMeasurement::passes() const {
  std::vector<MeasuredPass> measured;
  for (const Case& the_case : impl_->cases) {
    for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
      MeasuredPass& result = measured.emplace_back(
          measured_pass(the_case.pair, pass, the_case.passes_us[static_cast<std::size_t>(pass)]));
      result.kinds = the_case.operations.kinds(pass);
    }
  }
  return measured;
}

std::vector<CostSample> PassMeasurement::samples() const {
  SamplePool pool;
  for (const Case& the_case : impl_->cases) the_case.operations.add_samples_to(pool);
  return pool.samples();
}

}  // namespace flex
