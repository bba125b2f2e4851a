#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/philox.h"
#include "costmodel/build_schedule.h"
#include "runtime/launch.h"
#include "tests/support/layer_world.h"

/// The executor runs the schedule: the operations that ran are its list, delays change nothing, and every
/// kind of edge is needed.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

constexpr double kTolerance = 1e-11;
constexpr double kLossGradient = 0.4;

/// Notes what ran and when, and holds operations up.
class Recorder : public ExecutionObserver {
 public:
  using Delay = std::function<std::chrono::microseconds(const Operation&)>;

  explicit Recorder(Delay delay = {}) : delay_(std::move(delay)) {}

  void before(const Schedule& schedule, std::size_t index, Stream& stream) override {
    const Operation operation = schedule.operations[index];
    const auto delay = delay_ ? delay_(operation) : std::chrono::microseconds(0);
    note(operation.stream, stream, [this, delay, index, issued = num_issued_++, operation] {
      std::this_thread::sleep_for(delay);
      const std::lock_guard lock(mutex_);
      started_.push_back({issued, index, operation.kind});
    });
  }
  void after(const Schedule& schedule, std::size_t index, Stream& stream) override {
    note(schedule.operations[index].stream, stream, [this, issued = num_issued_ - 1] {
      const std::lock_guard lock(mutex_);
      ended_.push_back(issued);
    });
  }

  struct Start {
    std::size_t issued;
    std::size_t index;
    OperationKind kind;
  };
  std::vector<Start> started_;
  std::vector<std::size_t> ended_;

 private:
  template <class F>
  void note(StreamKind kind, Stream& stream, F function) {
    if (kind == StreamKind::kHost) return function();
    stream.enqueue(function);
  }
  Delay delay_;
  std::size_t num_issued_ = 0;
  std::mutex mutex_;
};

MoeConfig config_of(std::int64_t experts) {
  return {.model_dim = 6, .hidden_dim = 8, .num_experts = experts, .dtype = DType::kF64, .seed = 2};
}

/// One pass on `ranks` ranks; `delay` and `filter` may differ by rank.
struct Experiment {
  MoeConfig config;
  int ranks = 4;
  int ranks_per_node = 2;
  ForwardCall call;
  std::function<Recorder::Delay(int rank)> delay = [](int) { return Recorder::Delay{}; };
  LayerProbe probe;
  int repeats = 1;

  // Largest difference from the reference over the repeats.
  [[nodiscard]] double run() const {
    const ReferenceConfig reference = reference_config(config);
    const ReferenceParameters parameters = random_parameters(reference, 3);
    const auto tokens =
        random_tokens(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), 32), config.model_dim, 4);
    const ReferenceResult expected =
        reference_layer(reference, parameters, reference_call(config, call, kLossGradient), tokens);
    std::vector<std::vector<RankOutput>> outputs(static_cast<std::size_t>(repeats),
                                                 std::vector<RankOutput>(static_cast<std::size_t>(ranks)));
    run_ranks({ranks, ranks_per_node}, 30s, [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      MoeLayer layer(config, context);
      load_reference(layer, parameters);
      layer.set_probe(probe);
      Recorder recorder(delay(world.rank()));
      context.executor().set_observer(&recorder);
      Stream stream(Device::cpu());
      for (auto& output : outputs) {
        const auto rank = static_cast<std::size_t>(world.rank());
        output[rank] = run_layer(layer, tokens[rank], call, kLossGradient, stream);
      }
    });
    double worst = 0;
    for (const auto& output : outputs) worst = std::max(worst, compare(expected, output).error);
    return worst;
  }
};

ForwardCall call_of(const std::string& plan) {
  return {.top_k = 2, .capacity_factor = 1.25, .plans = {parse_plan(plan), parse_plan(plan)}};
}

TEST(ScheduleExecution, OperationsThatRanAreTheSchedulesList) {
  for (const char* plan : {"r0 d1 linear", "r1 d1 linear", "r1 d4 2dh", "r2 d2 linear"}) {
    run_ranks({4, 2}, 30s, [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      MoeLayer layer(config_of(2), context);
      Recorder recorder;
      context.executor().set_observer(&recorder);
      Stream stream(Device::cpu());
      const auto tokens = random_tokens({32}, 6, 1);
      static_cast<void>(run_layer(layer, tokens[0], call_of(plan), kLossGradient, stream));
      std::vector<OperationKind> listed;
      for (const Schedule* schedule :
           {&layer.route_schedule(), &layer.forward_schedule(), &layer.backward_schedule()}) {
        for (const Operation& operation : schedule->operations) listed.push_back(operation.kind);
      }
      ASSERT_EQ(recorder.started_.size(), listed.size()) << plan;
      EXPECT_EQ(recorder.ended_.size(), listed.size()) << plan;
      for (const Recorder::Start& start : recorder.started_)
        EXPECT_EQ(start.kind, listed[start.issued]) << plan;
    });
  }
}

TEST(ScheduleExecution, NothingStartsBeforeWhatItWaitsFor) {
  run_ranks({4, 2}, 30s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    MoeLayer layer(config_of(2), context);
    std::mutex mutex;
    std::vector<std::pair<char, std::size_t>>
        journal;  // 's'tart or 'e'nd of an operation of the forward expert part
    struct Journal : ExecutionObserver {
      std::mutex* mutex;
      std::vector<std::pair<char, std::size_t>>* entries;
      void write(char what, const Schedule& schedule, std::size_t index, Stream& stream) const {
        if (schedule.part != Part::kExpert || schedule.workload.pass != Pass::kForward) return;
        stream.enqueue([m = mutex, e = entries, what, index] {
          const std::lock_guard lock(*m);
          e->emplace_back(what, index);
        });
      }
      void before(const Schedule& s, std::size_t i, Stream& stream) override { write('s', s, i, stream); }
      void after(const Schedule& s, std::size_t i, Stream& stream) override { write('e', s, i, stream); }
    } observer;
    observer.mutex = &mutex;
    observer.entries = &journal;
    context.executor().set_observer(&observer);
    Stream stream(Device::cpu());
    const auto tokens = random_tokens({32}, 6, 1);
    static_cast<void>(run_layer(layer, tokens[0], call_of("r2 d4 2dh"), kLossGradient, stream));
    const auto place = [&](char what, std::size_t index) {
      return std::ranges::find(journal, std::pair{what, index}) - journal.begin();
    };
    const auto& operations = layer.forward_schedule().operations;
    for (std::size_t i = 0; i < operations.size(); ++i) {
      for (const std::int16_t wait : operations[i].waits_for()) {
        EXPECT_LT(place('e', static_cast<std::size_t>(wait)), place('s', i)) << label(operations[i]);
      }
    }
  });
}

TEST(ScheduleExecution, RandomDelaysChangeNoResult) {
  for (const char* plan : {"r0 d1 linear", "r1 d4 linear", "r2 d2 2dh", "r1 d8 2dh"}) {
    Experiment experiment{.config = config_of(2), .call = call_of(plan), .repeats = 3};
    experiment.delay = [](int rank) {
      auto random = std::make_shared<PhiloxStream>(77, static_cast<std::uint64_t>(rank));
      return [random](const Operation&) {
        return std::chrono::microseconds(random->below(4) == 0 ? random->below(1500) : 0);
      };
    };
    EXPECT_LE(experiment.run(), kTolerance) << plan;
  }
}

/// Where an edge occurs.
struct Setting {
  const char* plan;
  bool is_postscore;
  bool dropless;
};

/// The edges between two kinds of operation, and all settings in which there are any.
struct Edge {
  OperationKind from;
  OperationKind to;
  std::vector<Setting> settings;
};

std::ostream& operator<<(std::ostream& out, const Edge& edge) {
  return out << name(edge.from) << "_to_" << name(edge.to);
}

MoeConfig edge_config(bool is_postscore) {
  MoeConfig config = config_of(2);
  config.is_postscore = is_postscore;
  config.regather_weights = true;
  return config;
}

std::vector<Schedule> schedules_of(const Setting& setting) {
  const Plan plan = parse_plan(setting.plan);
  const Cluster cluster = cluster_of({4, 2});
  Workload workload = workload_of(edge_config(setting.is_postscore), 4);
  workload.num_tokens = 32;
  workload.capacity = 40;
  workload.dropless = setting.dropless;
  Workload backward = workload;
  backward.pass = Pass::kBackward;
  return {build_schedule(Part::kRoute, workload, plan, cluster),
          build_schedule(Part::kExpert, workload, plan, cluster),
          build_schedule(Part::kExpert, backward, plan, cluster)};
}

std::vector<Edge> all_edges() {
  std::vector<Edge> edges;
  for (const char* plan : {"r0 d1 linear", "r1 d2 linear", "r1 d2 2dh", "r2 d2 linear", "r2 d2 2dh"}) {
    for (const Setting& setting :
         {Setting{plan, true, false}, Setting{plan, false, false}, Setting{plan, true, true}}) {
      for (const Schedule& schedule : schedules_of(setting)) {
        for (const Operation& operation : schedule.operations) {
          for (const std::int16_t wait : operation.waits_for()) {
            const OperationKind from = schedule.operations[static_cast<std::size_t>(wait)].kind;
            auto found = std::ranges::find_if(
                edges, [&](const Edge& e) { return e.from == from && e.to == operation.kind; });
            if (found == edges.end()) found = edges.insert(edges.end(), {from, operation.kind, {}});
            found->settings.push_back(setting);
          }
        }
      }
    }
  }
  return edges;
}

// Takes all edges from `from` to `to` out.
void remove_edges(Schedule& schedule, OperationKind from, OperationKind to) {
  for (Operation& operation : schedule.operations) {
    if (operation.kind != to) continue;
    std::int32_t kept = 0;
    for (const std::int16_t wait : operation.waits_for()) {
      if (schedule.operations[static_cast<std::size_t>(wait)].kind == from) continue;
      operation.waits[static_cast<std::size_t>(kept++)] = wait;
    }
    operation.num_waits = kept;
  }
}

class EdgeRemoval : public ::testing::TestWithParam<Edge> {};

TEST_P(EdgeRemoval, IsNoticed) {
  const Edge& edge = GetParam();
  bool noticed = false;
  for (const Setting& setting : edge.settings) {
    Experiment experiment{.config = edge_config(setting.is_postscore), .call = call_of(setting.plan)};
    if (setting.dropless) experiment.call.capacity_factor = 0;
    experiment.probe.poison_buffers = true;
    experiment.delay = [&edge](int) {
      return [&edge](const Operation& operation) { return operation.kind == edge.from ? 20ms : 0ms; };
    };
    ASSERT_LE(experiment.run(), kTolerance) << "the whole schedule must be right under the same delays";
    experiment.probe.filter = [&edge](Schedule& schedule) { remove_edges(schedule, edge.from, edge.to); };
    try {
      noticed = experiment.run() > 1e-6;
    } catch (const Error&) {
      noticed = true;  // a capacity read too early may be no capacity at all
    }
    if (noticed) break;
  }
  EXPECT_TRUE(noticed) << "nothing depends on this edge under any plan";
}

INSTANTIATE_TEST_SUITE_P(Kinds, EdgeRemoval, ::testing::ValuesIn(all_edges()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace flex::testing
