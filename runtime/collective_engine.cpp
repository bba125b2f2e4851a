#include "runtime/collective_engine.h"

#include <fmt/format.h>

#include <utility>

#include "base/require.h"

namespace flex {
namespace {

void count_call(CollectiveEngine& engine, const CollectiveCall& call) {
  count_traffic(call, engine.rank(), engine.world_ranks(), engine.counters());
}

void run_and_count(CollectiveEngine& engine, std::uint64_t number, const CollectiveCall& call) {
  engine.run(number, call);
  count_call(engine, call);
}

/// A collective in a stream's queue.
class QueuedCollective {
 public:
  QueuedCollective(std::shared_ptr<CollectiveEngine> engine, const CollectiveCall& call)
      : engine_(std::move(engine)), number_(engine_->draw_number()), call_(call) {}
  QueuedCollective(QueuedCollective&&) noexcept = default;
  QueuedCollective& operator=(QueuedCollective&&) = delete;
  QueuedCollective(const QueuedCollective&) = delete;
  QueuedCollective& operator=(const QueuedCollective&) = delete;
  ~QueuedCollective() {
    if (engine_ == nullptr || engine_->aborted()) return;
    engine_->abort(fmt::format("rank {} skipped {}: earlier work on its stream failed",
                               engine_->world_ranks()[static_cast<std::size_t>(engine_->rank())],
                               place_text(call_.kind, call_.traffic, engine_->world_ranks())));
  }

  void operator()() {
    const std::shared_ptr<CollectiveEngine> engine = std::move(engine_);
    run_and_count(*engine, number_, call_);
  }

 private:
  std::shared_ptr<CollectiveEngine> engine_;  ///< null once it has run
  std::uint64_t number_;
  CollectiveCall call_;
};

class EngineCommunicator final : public Communicator {
 public:
  explicit EngineCommunicator(std::shared_ptr<CollectiveEngine> engine) : engine_(std::move(engine)) {}

  [[nodiscard]] int rank() const override { return engine_->rank(); }
  [[nodiscard]] int size() const override { return static_cast<int>(engine_->world_ranks().size()); }
  [[nodiscard]] std::span<const int> world_ranks() const override { return engine_->world_ranks(); }
  [[nodiscard]] std::string description() const override { return engine_->description(); }
  [[nodiscard]] std::string transport() const override { return engine_->transport(); }

  void all_to_all(const AllToAllArgs& args, Stream& stream) override {
    queue(all_to_all_call(args, size()), stream);
  }
  void ragged_all_to_all(const RaggedAllToAllArgs& args, Stream& stream) override {
    queue(ragged_all_to_all_call(args, size()), stream);
  }
  void all_gather(const void* send, void* recv, std::int64_t bytes_per_rank, Traffic traffic,
                  Stream& stream) override {
    queue(all_gather_call(send, recv, bytes_per_rank, traffic), stream);
  }
  void reduce_scatter(const void* send, void* recv, std::int64_t count, DType dtype, Traffic traffic,
                      Stream& stream) override {
    queue(reduce_scatter_call(send, recv, count, dtype, traffic), stream);
  }
  void all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op, Traffic traffic,
                  Stream& stream) override {
    queue(all_reduce_call(data, count, dtype, op, traffic), stream);
  }
  void broadcast(void* data, std::int64_t bytes, int root, Traffic traffic, Stream& stream) override {
    queue(broadcast_call(data, bytes, root, size(), traffic), stream);
  }
  void gather_host_blocking(std::span<const std::int64_t> mine, std::span<std::int64_t> all) override {
    const CollectiveCall call = gather_host_call(mine, all, size());
    run_and_count(*engine_, engine_->draw_number(), call);
  }

  [[nodiscard]] std::unique_ptr<Communicator> split(int color, int key) override {
    return make_communicator(engine_->split(color, key));
  }
  void abort(const std::string& reason) noexcept override { engine_->abort(reason); }
  [[nodiscard]] std::chrono::milliseconds deadline() const override { return engine_->deadline(); }
  [[nodiscard]] TrafficCounters& counters() override { return engine_->counters(); }

 private:
  void queue(CollectiveCall call, Stream& stream) {
    call.device = stream.device();
    require_reducible(call);
    if (call.device.is_cpu()) return stream.enqueue(QueuedCollective(engine_, call));
    if (!engine_->takes_cuda()) {  // not require(): its words would be made on every call
      fail("{}: this communicator ({}) moves CPU buffers, the stream runs on {}",
           operation_name(call.kind, call.traffic), description(), to_string(call.device));
    }
    engine_->issue(call, stream);
    count_call(*engine_, call);
  }

  std::shared_ptr<CollectiveEngine> engine_;
};

}  // namespace

void CollectiveEngine::issue(const CollectiveCall& call, Stream& stream) {
  fail("{} on {}: this communicator moves CPU buffers", operation_name(call.kind, call.traffic),
       to_string(stream.device()));
}

std::unique_ptr<Communicator> make_communicator(std::shared_ptr<CollectiveEngine> engine) {
  return std::make_unique<EngineCommunicator>(std::move(engine));
}

}  // namespace flex
