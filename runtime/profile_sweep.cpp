#include "runtime/profile_sweep.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "base/philox.h"
#include "base/require.h"
#include "costmodel/accuracy.h"
#include "costmodel/plan_space.h"
#include "profiler/mark_source.h"
#include "runtime/pass_record.h"
#include "runtime/timed_layer.h"

namespace flex {
namespace {

/// What the rounds said of one operation of one case; one value for each round.
struct OperationRounds {
  CostSample sample;  // without its duration
  StreamKind stream = StreamKind::kCompute;
  std::vector<double> alone_us;
  std::vector<double> planned_us;
  std::vector<double> overlap_us;  // of planned_us
};

/// One plan of one shape.
struct Case {
  TimedLayer* layer = nullptr;
  MeasuredPair pair;
  std::vector<OperationRounds> operations;
  std::array<std::vector<double>, 2> passes_us;  // by pass, one value for each round

  [[nodiscard]] PlanPair plans() const { return {pair.plan, pair.plan}; }
};

/// Samples of equal sizes together.
class Pool {
 public:
  void add(const CostSample& sample, double us, double beside_us = 0) {
    Entry& entry = entries_[to_json_line(sample)];
    entry.sample = sample;
    entry.us.push_back(us);
    entry.beside_us += beside_us;
  }
  [[nodiscard]] std::vector<CostSample> samples() const {
    std::vector<CostSample> samples;
    for (const auto& [line, entry] : entries_) {
      const auto count = static_cast<double>(entry.us.size());
      const bool alone = entry.sample.beside == Beside::kNothing;
      // Beside other work some are held up for long and most are not: the mean keeps what they lose together.
      const double us =
          alone ? median(entry.us) : std::accumulate(entry.us.begin(), entry.us.end(), 0.0) / count;
      CostSample& sample = samples.emplace_back(entry.sample);
      sample.duration_ns = std::llround(us * 1e3);
      sample.beside_ns =
          std::min<std::int64_t>(std::llround(entry.beside_us / count * 1e3), sample.duration_ns);
    }
    return samples;
  }

 private:
  struct Entry {
    CostSample sample;
    std::vector<double> us;
    double beside_us = 0;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace

struct ProfileSweep::Impl {
  Impl(ProfileSettings settings_in, RankContext& context_in, Stream& stream_in)
      : settings(std::move(settings_in)), context(context_in), stream(stream_in) {}

  void add_shape(const LayerShape& shape);
  static void time(Case& the_case);
  void record(Case& the_case, PassOrder order);
  void list_operations(Case& the_case, const PassRecord& record) const;

  ProfileSettings settings;
  RankContext& context;
  Stream& stream;
  std::vector<std::unique_ptr<TimedLayer>> layers;
  std::vector<Case> cases;
};

void ProfileSweep::Impl::add_shape(const LayerShape& shape) {
  const auto index = static_cast<std::uint64_t>(layers.size());
  layers.push_back(
      std::make_unique<TimedLayer>(shape, settings.dtype, settings.seed + index, context, stream));
  std::vector<Plan> plans =
      PlanSpace(workload_of(shape, settings.dtype, context.size()), context.cluster()).plans();
  PhiloxStream random(settings.seed, index);
  const auto count = std::min(plans.size(), static_cast<std::size_t>(settings.plans_per_shape));
  for (std::size_t i = 0; i < count; ++i) {
    const auto left = static_cast<std::int64_t>(plans.size() - i);
    if (i > 0) std::swap(plans[i], plans[i + static_cast<std::size_t>(random.below(left))]);
    cases.push_back({.layer = layers.back().get(), .pair = {shape, plans[i]}});
  }
}

void ProfileSweep::Impl::list_operations(Case& the_case, const PassRecord& record) const {
  for (const RecordedOperation& recorded : record.operations) {
    const Schedule& schedule = the_case.layer->schedule(recorded.pass);
    CostSample sample = sample_of(schedule, recorded.operation, 0, context.cluster().ranks_per_node);
    sample.algorithm = AllToAllAlgorithm::kLinear;  // of no matter to what runs alone, so alike for all plans
    sample.device = settings.device;
    sample.source = settings.source;
    the_case.operations.push_back({.sample = std::move(sample), .stream = recorded.operation.stream});
  }
}

void ProfileSweep::Impl::time(Case& the_case) {
  const PassTimes times = the_case.layer->time_slowest_blocking(the_case.plans());
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    the_case.passes_us[static_cast<std::size_t>(pass)].push_back(times.us(pass));
  }
}

void ProfileSweep::Impl::record(Case& the_case, PassOrder order) {
  const PassRecord record = gather_record(the_case.layer->record_blocking(the_case.plans(), order), context);
  if (the_case.operations.empty()) list_operations(the_case, record);
  const std::vector<OperationDuration> durations = durations_of(record);
  for (std::size_t i = 0; i < durations.size(); ++i) {
    OperationRounds& rounds = the_case.operations[i];
    if (order == PassOrder::kOneByOne) {
      rounds.alone_us.push_back(durations[i].us);
    } else {
      rounds.planned_us.push_back(durations[i].us);
      rounds.overlap_us.push_back(durations[i].overlap_us);
    }
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
    impl_->record(the_case, PassOrder::kOneByOne);
    impl_->record(the_case, PassOrder::kAsPlanned);
  }
}

std::vector<CostSample> ProfileSweep::samples() const {
  constexpr double kLeastOverlap = 0.1;  // below it the error of the whole duration is all that is seen
  Pool pool;
  for (const Case& the_case : impl_->cases) {
    for (const OperationRounds& rounds : the_case.operations) {
      pool.add(rounds.sample, median(rounds.alone_us));
      const double planned_us = median(rounds.planned_us);
      const double overlap_us = median(rounds.overlap_us);
      if (overlap_us <= kLeastOverlap * planned_us) continue;
      CostSample sample = rounds.sample;
      sample.beside = rounds.stream == StreamKind::kCompute ? Beside::kCommunication : Beside::kCompute;
      sample.algorithm = the_case.pair.plan.all_to_all;
      pool.add(sample, planned_us, overlap_us);
    }
  }
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

int run_rounds(double budget_s, int min_rounds, RankContext& context, const std::function<void()>& run_round,
               const BudgetProgress& progress) {
  constexpr double kMsPerS = 1e3;
  const std::int64_t start_ns = steady_now_ns();
  std::vector<std::int64_t> elapsed_ns(static_cast<std::size_t>(context.size()));
  for (int round = 1;; ++round) {
    run_round();
    const std::int64_t mine = steady_now_ns() - start_ns;
    context.control().gather_host_blocking({&mine, 1}, elapsed_ns);
    const double elapsed_s = static_cast<double>(elapsed_ns.front()) * 1e-9;
    if (progress && context.rank() == 0) {
      progress(static_cast<int>(std::min(elapsed_s, budget_s) * kMsPerS),
               static_cast<int>(budget_s * kMsPerS));
    }
    // Stops nearer to the budget than one more round would.
    if (round >= min_rounds && elapsed_s * (1 + 0.5 / round) >= budget_s) return round;
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
