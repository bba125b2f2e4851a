#include "runtime/profile_sweep.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/philox.h"
#include "base/require.h"
#include "costmodel/plan_space.h"
#include "profiler/mark_source.h"
#include "runtime/max_over_ranks.h"
#include "runtime/measured_operations.h"
#include "runtime/timed_layer.h"

namespace flex {
namespace {

/// One plan of one shape.
struct Case {
  TimedLayer* layer = nullptr;
  MeasuredPair pair;
  MeasuredOperations operations;
  std::array<std::vector<double>, 2> passes_us{};  // by pass, one value for each round

  [[nodiscard]] PlanPair plans() const { return {pair.plan, pair.plan}; }
};

}  // namespace

struct ProfileSweep::Impl {
  Impl(ProfileSettings settings_in, RankContext& context_in, Stream& stream_in)
      : settings(std::move(settings_in)), context(context_in), stream(stream_in) {}

  void add_shape(const LayerShape& shape);
  static void time(Case& the_case);

  ProfileSettings settings;
  RankContext& context;
  Stream& stream;
  std::vector<std::unique_ptr<TimedLayer>> layers;
  std::vector<Case> cases;
};

void ProfileSweep::Impl::add_shape(const LayerShape& shape) {
  const auto index = static_cast<std::uint64_t>(layers.size());
  layers.push_back(std::make_unique<TimedLayer>(shape, settings.dtype, settings.seed + index, context, stream,
                                                settings.operations.clock));
  layers.back()->set_graph_policy(kNoGraphs);
  std::vector<Plan> plans =
      PlanSpace(workload_of(shape, settings.dtype, context.size()), context.cluster()).plans();
  PhiloxStream random(settings.seed, index);
  const auto count = std::min(plans.size(), static_cast<std::size_t>(settings.plans_per_shape));
  for (std::size_t i = 0; i < count; ++i) {
    const auto left = static_cast<std::int64_t>(plans.size() - i);
    if (i > 0) std::swap(plans[i], plans[i + static_cast<std::size_t>(random.below(left))]);
    cases.push_back({.layer = layers.back().get(),
                     .pair = {shape, plans[i]},
                     .operations = {*layers.back(), {plans[i], plans[i]}, context, settings.operations}});
  }
}

void ProfileSweep::Impl::time(Case& the_case) {
  const PassTimes times = the_case.layer->time_slowest_blocking(the_case.plans());
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    the_case.passes_us[static_cast<std::size_t>(pass)].push_back(times.us(pass));
  }
}

ProfileSweep::ProfileSweep(const ProfileSettings& settings, RankContext& context, Stream& stream)
    : impl_(std::make_unique<Impl>(settings, context, stream)) {
  require(!settings.shapes.empty(), "a profiling sweep needs at least one shape");
  require(settings.plans_per_shape >= 1, "{} plans per shape; there is at least one",
          settings.plans_per_shape);
  for (const LayerShape& shape : settings.shapes) impl_->add_shape(shape);
}

ProfileSweep::~ProfileSweep() = default;

void ProfileSweep::run_round_blocking() {
  for (Case& the_case : impl_->cases) {
    // Caches and memory are another case's until it has run once.
    static_cast<void>(the_case.layer->time_blocking(the_case.plans()));
    Impl::time(the_case);
    the_case.operations.measure_alone_blocking();
    the_case.operations.measure_planned_blocking();
  }
}

std::vector<CostSample> ProfileSweep::samples() const {
  SamplePool pool;
  for (const Case& the_case : impl_->cases) the_case.operations.add_samples_to(pool);
  return pool.samples();
}

std::vector<MeasuredPass> ProfileSweep::passes() const {
  std::vector<MeasuredPass> passes;
  for (const Case& the_case : impl_->cases) {
    for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
      passes.push_back(
          measured_pass(the_case.pair, pass, the_case.passes_us[static_cast<std::size_t>(pass)]));
    }
  }
  return passes;
}

Rounds run_rounds(double budget_s, int min_rounds, RankContext& context,
                  const std::function<void()>& run_round, const BudgetProgress& progress,
                  const std::function<bool()>& should_stop) {
  constexpr double kMsPerS = 1e3;
  const std::int64_t start_ns = steady_now_ns();
  Rounds rounds;
  for (;;) {
    run_round();
    ++rounds.count;
    const bool is_first = context.rank() == 0;
    // Of the ranks' largest numbers the first is rank 0's clock.
    std::array<std::int64_t, 2> agreed = {is_first ? steady_now_ns() - start_ns : 0,
                                          should_stop && should_stop() ? 1 : 0};
    max_over_ranks_blocking(agreed, context.control());
    const double elapsed_s = static_cast<double>(agreed[0]) * 1e-9;
    rounds.stopped = agreed[1] != 0;
    if (progress && is_first) {
      progress(static_cast<int>(std::min(elapsed_s, budget_s) * kMsPerS),
               static_cast<int>(budget_s * kMsPerS));
    }
    // Stops nearer to the budget than one more round would.
    const bool spent = elapsed_s * (1 + 0.5 / rounds.count) >= budget_s;
    if (rounds.stopped || (rounds.count >= min_rounds && spent)) return rounds;
  }
}

std::vector<CostSample> profile_sweep(const ProfileSettings& settings, RankContext& context,
                                      const BudgetProgress& progress) {
  Stream stream(context.device());
  ProfileSweep sweep(settings, context, stream);
  run_rounds(
      settings.budget_s, settings.min_rounds, context, [&] { sweep.run_round_blocking(); }, progress);
  return sweep.samples();
}

}  // namespace flex
