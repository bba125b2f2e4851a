#include "runtime/pass_measurement.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/philox.h"
#include "costmodel/accuracy.h"
#include "costmodel/plan_space.h"
#include "runtime/pass_record.h"
#include "runtime/timed_layer.h"

namespace flex {
namespace {

constexpr std::int32_t kBackwardPass = 2;  // of a record: route, forward experts, backward experts

/// Durations of one kind, one value for each round.
struct KindRounds {
  OperationKind kind = OperationKind::kGate;
  std::vector<double> us;
};

struct PassRounds {
  std::vector<double> us;  // one value for each repeat
  std::vector<KindRounds> kinds;

  void add_round(std::span<const KindTime> times) {
    for (std::size_t i = 0; i < times.size(); ++i) {
      if (i == kinds.size()) kinds.push_back({.kind = times[i].kind});
      kinds[i].us.push_back(times[i].us);
    }
  }
};

/// One pair, with its rounds by pass.
struct Case {
  TimedLayer* layer = nullptr;
  MeasuredPair pair;
  std::array<PassRounds, 2> passes;
};

std::vector<KindTime> add_up(const PassRecord& record, std::span<const OperationDuration> durations,
                             Pass pass) {
  std::vector<KindTime> kinds;
  for (std::size_t i = 0; i < durations.size(); ++i) {
    const RecordedOperation& recorded = record.operations[i];
    if ((recorded.pass == kBackwardPass) != (pass == Pass::kBackward)) continue;
    auto found = std::ranges::find(kinds, recorded.operation.kind, &KindTime::kind);
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {.kind = recorded.operation.kind});
    found->us += durations[i].us;
  }
  return kinds;
}

}  // namespace

std::vector<MeasuredPair> draw_pairs(int count, const Cluster& cluster, DType dtype, const WorkRange& range,
                                     std::uint64_t seed, std::span<const LayerShape> taken) {
  PhiloxStream random(seed, 1);  // shapes draw from stream 0
  std::vector<MeasuredPair> pairs;
  for (const LayerShape& shape : draw_shapes(count, cluster.world(), range, seed, taken)) {
    std::vector<Plan> plans = PlanSpace(workload_of(shape, dtype, cluster.world()), cluster).plans();
    const std::size_t left = static_cast<std::size_t>(count) - pairs.size();
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
  Impl(RankContext& context_in, Stream& stream_in) : context(context_in), stream(stream_in) {}

  void time(Case& the_case);
  void record(Case& the_case);

  RankContext& context;
  Stream& stream;
  std::vector<std::unique_ptr<TimedLayer>> layers;
  std::vector<Case> cases;
};

PassMeasurement::PassMeasurement(std::span<const MeasuredPair> pairs, DType dtype, std::uint64_t seed,
                                 RankContext& context, Stream& stream)
    : impl_(std::make_unique<Impl>(context, stream)) {
  for (const MeasuredPair& pair : pairs) {
    if (impl_->cases.empty() || impl_->cases.back().pair.shape != pair.shape) {
      const auto index = static_cast<std::uint64_t>(impl_->layers.size());
      impl_->layers.push_back(std::make_unique<TimedLayer>(pair.shape, dtype, seed + index, context, stream));
    }
    impl_->cases.push_back({.layer = impl_->layers.back().get(), .pair = pair});
  }
}

PassMeasurement::~PassMeasurement() = default;

void PassMeasurement::Impl::time(Case& the_case) {
  const PassTimes times = the_case.layer->time_slowest_blocking({the_case.pair.plan, the_case.pair.plan});
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    the_case.passes[static_cast<std::size_t>(pass)].us.push_back(times.us(pass));
  }
}

void PassMeasurement::Impl::record(Case& the_case) {
  const PassRecord record = gather_record(
      the_case.layer->record_blocking({the_case.pair.plan, the_case.pair.plan}, PassOrder::kOneByOne),
      context);
  const std::vector<OperationDuration> durations = durations_of(record);
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    the_case.passes[static_cast<std::size_t>(pass)].add_round(add_up(record, durations, pass));
  }
}

void PassMeasurement::run_round_blocking() {
  constexpr int kRepeats = 2;
  for (Case& the_case : impl_->cases) {
    // Caches and memory are another case's until it has run once.
    static_cast<void>(the_case.layer->time_blocking({the_case.pair.plan, the_case.pair.plan}));
    for (int repeat = 0; repeat < kRepeats; ++repeat) impl_->time(the_case);
    impl_->record(the_case);
  }
}

std::vector<MeasuredPass> PassMeasurement::passes() const {
  std::vector<MeasuredPass> measured;
  for (const Case& the_case : impl_->cases) {
    for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
      const PassRounds& rounds = the_case.passes[static_cast<std::size_t>(pass)];
      MeasuredPass result = measured_pass(the_case.pair, pass, rounds.us);
      for (const KindRounds& kind : rounds.kinds) result.kinds.push_back({kind.kind, median(kind.us)});
      std::ranges::sort(result.kinds, {}, &KindTime::kind);
      measured.push_back(std::move(result));
    }
  }
  return measured;
}

}  // namespace flex
