#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
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
/// small layer forward and backward with a pause of its stream between them: some 5 ms where the cores are
/// idle. Three such layers take turns, two without a recorder and one with. Prints the median step without,
/// and medians of what a step took longer beside it: another one without (what the measurement cannot tell
/// from nothing), and the one with; from start to end on the slowest rank, and of processor time on the host
/// thread of rank 0, which has the file. A fourth layer is recorded by hand: the medians of what its
/// recorder's calls took there, and of the exchange, waiting for the other ranks included, which a layer with
/// a policy makes anyway.
namespace flex::bench {
namespace {

using namespace std::chrono_literals;

constexpr int kRounds = 600;
constexpr int kWarmUpRounds = 8;
constexpr std::int64_t kTokens = 16;
constexpr auto kPause = 2500us;
constexpr double kStepUs = 5000;  // that shares are of

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
  double calls_us = 0;
  double exchange_us = 0;
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

/// Does what a RecordedLayer does, and measures the recorder's part of it.
class RecordedByHand {
 public:
  RecordedByHand(MoeLayer& layer, TraceRecorder& recorder, RankContext& context)
      : layer_(layer), recorder_(recorder), timers_(context.device()) {
    recorder.attach(0, layer, timers_);
  }

  ForwardResult forward(ConstTensorView x, TensorView y, const ForwardCall& call, Stream& stream) {
    ForwardCall kept = call;
    kept.keep_counts = true;
    const std::int64_t begin_ns = steady_now_ns();
    static_cast<void>(recorder_.begin_forward_blocking(0));
    const std::int64_t begun_ns = steady_now_ns();
    recorder_.exchange_blocking();
    const std::int64_t exchanged_ns = steady_now_ns();
    timers_.start_forward(stream);
    const std::int64_t started_ns = steady_now_ns();
    const ForwardResult result = layer_.forward(x, y, kept, stream);
    const std::int64_t ran_ns = steady_now_ns();
    timers_.stop_forward(stream);
    recorder_.end_forward(0, kept, result);
    calls_ns_ = begun_ns - begin_ns + (started_ns - exchanged_ns) + (steady_now_ns() - ran_ns);
    exchange_us_.push_back(static_cast<double>(exchanged_ns - begun_ns) * 1e-3);
    return result;
  }
  void backward(ConstTensorView dy, TensorView dx, double loss_gradient, Stream& stream) {
    const std::int64_t begin_ns = steady_now_ns();
    timers_.start_backward(stream);
    const std::int64_t started_ns = steady_now_ns();
    layer_.backward(dy, dx, loss_gradient, stream);
    const std::int64_t ran_ns = steady_now_ns();
    timers_.stop_backward(stream);
    recorder_.end_backward(0);
    calls_ns_ += started_ns - begin_ns + (steady_now_ns() - ran_ns);
    calls_us_.push_back(static_cast<double>(calls_ns_) * 1e-3);
  }

  [[nodiscard]] double calls_us() const { return median(calls_us_); }
  [[nodiscard]] double exchange_us() const { return median(exchange_us_); }

 private:
  MoeLayer& layer_;
  TraceRecorder& recorder_;
  PassTimers timers_;
  std::int64_t calls_ns_ = 0;  // of the step under way
  std::vector<double> calls_us_, exchange_us_;
};

/// A layer of one rank with its own policy, recorded if `recorder` is not null.
class Contender {
 public:
  Contender(const Case& kind, RankContext& context, TraceRecorder* recorder, bool by_hand = false)
      : context_(context),
        call_{.top_k = 2, .capacity_factor = kind.capacity_factor, .equal_tokens = true},
        x_(random_normal_tensor(DType::kF32, {kTokens, config().model_dim}, context.device(), 1,
                                static_cast<std::uint64_t>(context.rank()))),
        y_(DType::kF32, x_.shape()),
        dx_(DType::kF32, x_.shape()),
        policy_(make_policy({.kind = PolicyKind::kStatic}, {.cluster = context.cluster()})),
        layer_(config(), context) {
    if (by_hand) {
      by_hand_.emplace(layer_, *recorder, context);
    } else if (kind.is_adaptive) {
      adaptive_.emplace(layer_, *policy_, 0, context, recorder);
    } else if (recorder != nullptr) {
      recorded_.emplace(layer_, *recorder, 0, context);
    }
  }

  [[nodiscard]] const RecordedByHand& by_hand() const { return by_hand_.value(); }
  static MoeConfig config() { return {.model_dim = 128, .hidden_dim = 256, .num_experts = 8}; }

  /// One training step, waited for; the ranks start together.
  StepTime step_blocking() {
    std::array<std::int64_t, 1> slowest_ns{};
    max_over_ranks_blocking(slowest_ns, context_.control());
    const std::int64_t begin_ns = steady_now_ns();
    const double host_begin_us = thread_us();
    if (by_hand_) {
      queue(*by_hand_);
    } else if (adaptive_) {
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
  std::optional<RecordedByHand> by_hand_;
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
  const TraceHeader header = recorded_header("bench", {layer}, context);
  TraceRecorder recorder(file, header, context);
  TraceRecorder recorder_by_hand(file.string() + ".by_hand.gz", header, context);
  std::vector<std::unique_ptr<Contender>> contenders;
  for (TraceRecorder* one :
       {static_cast<TraceRecorder*>(nullptr), static_cast<TraceRecorder*>(nullptr), &recorder}) {
    contenders.push_back(std::make_unique<Contender>(kind, context, one));
  }
  contenders.push_back(std::make_unique<Contender>(kind, context, &recorder_by_hand, true));
  std::array<std::vector<StepTime>, 4> steps;
  for (int round = 0; round < kWarmUpRounds + kRounds; ++round) {
    for (std::size_t i = 0; i < contenders.size(); ++i) {
      const std::size_t turn = (i + static_cast<std::size_t>(round)) % contenders.size();
      const StepTime step = contenders[turn]->step_blocking();
      if (round >= kWarmUpRounds) steps[turn].push_back(step);
    }
  }
  recorder.finish_blocking();
  recorder_by_hand.finish_blocking();
  Cost cost{.floor = median_difference(steps[1], steps[0]),
            .added = median_difference(steps[2], steps[0]),
            .calls_us = contenders[3]->by_hand().calls_us(),
            .exchange_us = contenders[3]->by_hand().exchange_us()};
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
                    {"wall: none"},
                    {"recorder"},
                    {"host: none"},
                    {"recorder"},
                    {"share"},
                    {"calls"},
                    {"share"},
                    {"exchange"},
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
      const auto share = [](double us) { return fmt::format("{:.2f}%", 100 * us / kStepUs); };
      const auto added = [](double us) { return fmt::format("{:+.1f} us", us); };
      table.add({kind.runner, fmt::format("{}", ranks), fmt::format("{}", kind.capacity_factor),
                 fmt::format("{:.0f} us", cost.step_us), added(cost.floor.wall_us), added(cost.added.wall_us),
                 added(cost.floor.host_us), added(cost.added.host_us), share(cost.added.host_us),
                 fmt::format("{:.1f} us", cost.calls_us), share(cost.calls_us),
                 fmt::format("{:.1f} us", cost.exchange_us), fmt::format("{}", cost.num_dropped)});
    }
  }
  fmt::print("{} rounds each; shares of a step of 5 ms\n\n{}", kRounds, table.text());
}

}  // namespace
}  // namespace flex::bench

// NOLINTNEXTLINE(bugprone-exception-escape): what a rank throws ends the bench
int main() { flex::bench::run(); }
