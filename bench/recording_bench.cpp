#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "cli/table.h"
#include "profiler/mark_source.h"
#include "runtime/adaptive_layer.h"
#include "runtime/launch.h"
#include "runtime/max_over_ranks.h"
#include "runtime/random_tensor.h"
#include "runtime/recorded_layer.h"
#include "tests/base/temporary_directory.h"
#include "tuner/policy.h"

/// What recording a layer costs its training steps, on ranks that are threads of this process. A step is a
/// small layer forward and backward with a pause of its stream between them, which makes up for the rest of 5
/// ms: so the machine's other work disturbs little. Three such layers take turns, two without a recorder and
/// one with. Prints the median step without, and medians of what a step took longer beside it: another one
/// without (what the measurement cannot tell from nothing), and the one with; from start to end on the
/// slowest rank, and of processor time on the host thread of rank 0, which has the file.
namespace flex::bench {
namespace {

using namespace std::chrono_literals;

constexpr int kRounds = 600;
constexpr int kWarmUpRounds = 6;
constexpr std::int64_t kTokens = 16;
constexpr auto kPause = 4500us;  // with the layer's passes about 5 ms

struct Case {
  const char* runner;
  bool is_adaptive;
  double capacity_factor;
  int ranks;
};

/// Microseconds.
struct StepTime {
  double wall_us = 0;
  double host_us = 0;
};

struct Cost {
  double step_us = 0;
  StepTime floor;  ///< of no recorder over no recorder
  StepTime added;
  std::int64_t num_dropped = 0;
};

double thread_us() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// A layer of one rank with its own policy, recorded if `recorder` is not null.
class Contender {
 public:
  Contender(const Case& kind, RankContext& context, TraceRecorder* recorder)
      : context_(context),
        call_{.top_k = 2, .capacity_factor = kind.capacity_factor, .equal_tokens = true},
        x_(random_normal_tensor(DType::kF32, {kTokens, config().model_dim}, context.device(), 1,
                                static_cast<std::uint64_t>(context.rank()))),
        y_(DType::kF32, x_.shape()),
        dx_(DType::kF32, x_.shape()),
        policy_(make_policy({.kind = PolicyKind::kStatic}, {.cluster = context.cluster()})),
        layer_(config(), context) {
    if (kind.is_adaptive) {
      adaptive_.emplace(layer_, *policy_, 0, context, recorder);
    } else if (recorder != nullptr) {
      recorded_.emplace(layer_, *recorder, 0, context);
    }
  }

  static MoeConfig config() { return {.model_dim = 128, .hidden_dim = 256, .num_experts = 8}; }

  /// One training step, waited for; the ranks start together.
  StepTime step_blocking() {
    std::array<std::int64_t, 1> slowest_ns{};
    max_over_ranks_blocking(slowest_ns, context_.control());
    const std::int64_t begin_ns = steady_now_ns();
    const double host_begin_us = thread_us();
    if (adaptive_) {
      queue(*adaptive_);
    } else if (recorded_) {
      queue(*recorded_);
    } else {
      queue(layer_);
    }
    stream_.synchronize_blocking();
    const double host_us = thread_us() - host_begin_us;
    slowest_ns = {steady_now_ns() - begin_ns};
    max_over_ranks_blocking(slowest_ns, context_.control());
    return {static_cast<double>(slowest_ns[0]) * 1e-3, host_us};
  }

 private:
  template <class Layer>
  void queue(Layer& layer) {
    static_cast<void>(layer.forward(x_, y_, call_, stream_));
    stream_.enqueue([] { std::this_thread::sleep_for(kPause); });
    layer.backward(x_, dx_, 0.01, stream_);
  }

  RankContext& context_;
  ForwardCall call_;
  Tensor x_, y_, dx_;
  Stream stream_{Device::cpu()};
  std::unique_ptr<PlanPolicy> policy_;
  MoeLayer layer_;
  std::optional<AdaptiveLayer> adaptive_;
  std::optional<RecordedLayer> recorded_;
};

StepTime median_difference(const std::vector<StepTime>& steps, const std::vector<StepTime>& base) {
  std::vector<double> wall_us;
  std::vector<double> host_us;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    wall_us.push_back(steps[i].wall_us - base[i].wall_us);
    host_us.push_back(steps[i].host_us - base[i].host_us);
  }
  return {median(wall_us), median(host_us)};
}

Cost measure(const Case& kind, RankContext& context, const std::filesystem::path& file) {
  const ForwardCall call{.top_k = 2, .capacity_factor = kind.capacity_factor, .equal_tokens = true};
  const TraceLayer layer = trace_layer_of(Contender::config(), call, kTokens, context.size());
  TraceRecorder recorder(file, recorded_header("bench", {layer}, context), context);
  Contender plain(kind, context, nullptr);
  Contender plain_too(kind, context, nullptr);
  Contender recorded(kind, context, &recorder);
  const std::array<Contender*, 3> contenders = {&plain, &plain_too, &recorded};
  std::array<std::vector<StepTime>, 3> steps;
  for (int round = 0; round < kWarmUpRounds + kRounds; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const std::size_t turn = (i + static_cast<std::size_t>(round)) % contenders.size();
      const StepTime step = contenders[turn]->step_blocking();
      if (round >= kWarmUpRounds) steps[turn].push_back(step);
    }
  }
  recorder.finish_blocking();
  Cost cost{.floor = median_difference(steps[1], steps[0]), .added = median_difference(steps[2], steps[0])};
  if (const auto trailer = recorder.close()) cost.num_dropped = trailer->num_dropped;
  std::vector<double> steps_us;
  for (const StepTime& step : steps[0]) steps_us.push_back(step.wall_us);
  cost.step_us = median(steps_us);
  return cost;
}

void run() {
  cli::Table table({{"layer", cli::Align::kLeft},
                    {"ranks"},
                    {"f"},
                    {"step"},
                    {"no recorder"},
                    {"recorder"},
                    {"share"},
                    {"host: no recorder"},
                    {"recorder"},
                    {"share"},
                    {"dropped"}});
  const TemporaryDirectory directory;
  for (const int ranks : {2, 4}) {
    for (const Case& kind : {Case{"with a policy", true, 1, ranks}, Case{"with a policy", true, 0, ranks},
                             Case{"plain", false, 1, ranks}, Case{"plain", false, 0, ranks}}) {
      Cost cost;
      run_ranks({.world = ranks, .ranks_per_node = ranks}, 60s, [&](Communicator& world) {
        RankContext context(world, Device::cpu());
        const Cost mine = measure(kind, context, directory / "run.jsonl.gz");
        if (world.rank() == 0) cost = mine;
      });
      const auto share = [&](double us) { return fmt::format("{:.2f}%", 100 * us / cost.step_us); };
      const auto added = [](double us) { return fmt::format("{:+.1f} us", us); };
      table.add({kind.runner, fmt::format("{}", ranks), fmt::format("{}", kind.capacity_factor),
                 fmt::format("{:.0f} us", cost.step_us), added(cost.floor.wall_us), added(cost.added.wall_us),
                 share(cost.added.wall_us), added(cost.floor.host_us), added(cost.added.host_us),
                 share(cost.added.host_us), fmt::format("{}", cost.num_dropped)});
    }
  }
  fmt::print("{} rounds each\n\n{}", kRounds, table.text());
}

}  // namespace
}  // namespace flex::bench

int main() { flex::bench::run(); }
