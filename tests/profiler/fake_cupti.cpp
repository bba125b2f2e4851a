#include "tests/profiler/fake_cupti.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <iterator>
#include <random>
#include <utility>

#include "profiler/mark_source.h"

namespace flex::testing {
namespace {

std::atomic<FakeCupti*> current = nullptr;

/// Graph nodes: a node's id is its place.
std::array<char, 1024> graph_nodes;

void* node_at(std::uint64_t id) { return id == 0 ? nullptr : &graph_nodes.at(id); }

}  // namespace

/// CUPTI's functions, which find the fake that lives.
struct FakeCalls {
  static FakeCupti& fake() { return *current.load(); }

  static std::int32_t get_version(std::uint32_t* version) {
    *version = fake().version;
    return fake().called("cuptiGetVersion");
  }
  static std::int32_t get_result_string(std::int32_t result, const char** text) {
    *text = result == cupti::kMultipleSubscribersNotSupported
                ? "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"
                : "CUPTI_ERROR_UNKNOWN";
    return cupti::kSuccess;
  }
  static std::int32_t subscribe(void** subscriber, cupti::Callback callback, void* /*user_data*/) {
    const std::int32_t result = fake().called("cuptiSubscribe");
    if (result != cupti::kSuccess) return result;
    const std::scoped_lock lock(fake().mutex_);
    fake().callback_ = callback;
    fake().subscribed_ = true;
    *subscriber = &fake();
    return result;
  }
  static std::int32_t unsubscribe(void* /*subscriber*/) {
    const std::int32_t result = fake().called("cuptiUnsubscribe");
    const std::scoped_lock lock(fake().mutex_);
    fake().subscribed_ = false;
    return result;
  }
  static std::int32_t enable_callback(std::uint32_t /*enable*/, void* /*subscriber*/,
                                      std::uint32_t /*domain*/, std::uint32_t /*id*/) {
    return fake().called("cuptiEnableCallback");
  }
  static std::int32_t register_callbacks(cupti::BufferRequested requested, cupti::BufferCompleted completed) {
    {
      const std::scoped_lock lock(fake().mutex_);
      fake().requested_ = requested;
      fake().completed_ = completed;
    }
    return fake().called("cuptiActivityRegisterCallbacks");
  }
  static std::int32_t enable(std::uint32_t kind) {
    const std::int32_t result = fake().called("cuptiActivityEnable");
    if (result != cupti::kSuccess) return result;
    const std::scoped_lock lock(fake().mutex_);
    fake().enabled_.insert(kind);
    fake().ever_enabled_.insert(kind);
    return result;
  }
  static std::int32_t disable(std::uint32_t kind) {
    const std::int32_t result = fake().called("cuptiActivityDisable");
    const std::scoped_lock lock(fake().mutex_);
    fake().enabled_.erase(kind);
    return result;
  }
  static std::int32_t flush_all(std::uint32_t flag) {
    const std::int32_t result = fake().called("cuptiActivityFlushAll");
    if (result != cupti::kSuccess) return result;
    std::vector<Bytes> records;
    bool withholds = false;
    {
      const std::scoped_lock lock(fake().mutex_);
      records = std::exchange(fake().pending_, {});
      if (flag == cupti::kFlushForced) {
        for (Bytes& record : std::exchange(fake().running_, {})) {
          forget_times(record);
          records.push_back(std::move(record));
        }
      }
      withholds = !fake().running_.empty();
    }
    const std::uint64_t order = fake().seed++;
    fake().run_on_worker(
        [records = std::move(records), order, withholds]() mutable {
          fake().withhold_buffer(withholds);
          fake().deliver(std::move(records), order);
        },
        true);
    return result;
  }
  static void forget_times(Bytes& kernel_record) {
    cupti::KernelRecord kernel{};
    std::memcpy(&kernel, kernel_record.data(), sizeof(kernel));
    kernel.start = kernel.end = 0;
    std::memcpy(kernel_record.data(), &kernel, sizeof(kernel));
  }
  static std::int32_t next_record(std::uint8_t* buffer, std::size_t valid_bytes, cupti::Record** record) {
    fake().poke_callbacks(false);  // a buffer for each would never end
    std::uint8_t* next = buffer;
    if (*record != nullptr) {
      next = reinterpret_cast<std::uint8_t*>(*record) + record_bytes((*record)->kind).value_or(valid_bytes);
    }
    if (next >= buffer + valid_bytes) return cupti::kMaxLimitReached;
    const auto left = static_cast<std::size_t>(buffer + valid_bytes - next);
    const auto size = record_bytes(reinterpret_cast<cupti::Record*>(next)->kind);
    if (!size || *size > left) return cupti::kInvalidKind;
    *record = reinterpret_cast<cupti::Record*>(next);
    return cupti::kSuccess;
  }
  static std::int32_t num_dropped_records(void* /*context*/, std::uint32_t /*stream_id*/,
                                          std::size_t* dropped) {
    *dropped = fake().num_dropped_.exchange(0);
    return cupti::kSuccess;
  }
  static std::int32_t get_timestamp(std::uint64_t* timestamp) {
    const std::int32_t result = fake().called("cuptiGetTimestamp");
    *timestamp = static_cast<std::uint64_t>(steady_now_ns() + FakeCupti::kClockAheadNs);
    return result;
  }
  static std::int32_t push_external_id(std::uint32_t /*kind*/, std::uint64_t id) {
    const std::int32_t result = fake().called("cuptiActivityPushExternalCorrelationId");
    if (result != cupti::kSuccess) return result;
    const std::scoped_lock lock(fake().mutex_);
    fake().external_ids_[std::this_thread::get_id()].push_back(id);
    return result;
  }
  static std::int32_t pop_external_id(std::uint32_t /*kind*/, std::uint64_t* last_id) {
    const std::int32_t result = fake().called("cuptiActivityPopExternalCorrelationId");
    const std::scoped_lock lock(fake().mutex_);
    std::vector<std::uint64_t>& ids = fake().external_ids_[std::this_thread::get_id()];
    if (ids.empty()) return 18;  // CUPTI_ERROR_QUEUE_EMPTY
    *last_id = ids.back();
    ids.pop_back();
    return result;
  }
  static std::int32_t get_graph_node_id(void* node, std::uint64_t* id) {
    *id = static_cast<std::uint64_t>(static_cast<char*>(node) - graph_nodes.data());
    return cupti::kSuccess;
  }
  static std::int32_t finalize() { return fake().called("cuptiFinalize"); }
};

const cupti::Api& FakeCupti::api() {
  static const cupti::Api kApi{.get_version = FakeCalls::get_version,
                               .get_result_string = FakeCalls::get_result_string,
                               .subscribe = FakeCalls::subscribe,
                               .unsubscribe = FakeCalls::unsubscribe,
                               .enable_callback = FakeCalls::enable_callback,
                               .register_callbacks = FakeCalls::register_callbacks,
                               .enable = FakeCalls::enable,
                               .disable = FakeCalls::disable,
                               .flush_all = FakeCalls::flush_all,
                               .next_record = FakeCalls::next_record,
                               .num_dropped_records = FakeCalls::num_dropped_records,
                               .get_timestamp = FakeCalls::get_timestamp,
                               .push_external_id = FakeCalls::push_external_id,
                               .pop_external_id = FakeCalls::pop_external_id,
                               .get_graph_node_id = FakeCalls::get_graph_node_id,
                               .finalize = FakeCalls::finalize};
  return kApi;
}

FakeCupti::FakeCupti() {
  current = this;
  worker_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (true) {
      work_changed_.wait(lock, [&] { return is_ending_ || !work_.empty(); });
      if (work_.empty()) return;
      const std::function<void()> task = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      task();
      lock.lock();
      ++num_done_;
      work_changed_.notify_all();
    }
  });
}

FakeCupti::~FakeCupti() {
  {
    const std::scoped_lock lock(mutex_);
    is_ending_ = true;
    work_changed_.notify_all();
  }
  worker_.join();
  withhold_buffer(false);
  for (std::uint8_t* buffer : held_) completed_(nullptr, 0, buffer, 0, 0);
  current = nullptr;
}

void FakeCupti::fail(const std::string& function, std::int32_t result, int after) {
  const std::scoped_lock lock(mutex_);
  failures_[function] = {after, result};
}

void FakeCupti::succeed() {
  const std::scoped_lock lock(mutex_);
  failures_.clear();
}

std::int32_t FakeCupti::called(const char* function) {
  poke_callbacks(true);
  const std::scoped_lock lock(mutex_);
  ++calls_[function];
  const auto failure = failures_.find(function);
  if (failure == failures_.end()) return cupti::kSuccess;
  return failure->second.first-- > 0 ? cupti::kSuccess : failure->second.second;
}

void FakeCupti::run_on_worker(std::function<void()> task, bool wait) {
  std::unique_lock lock(mutex_);
  work_.push_back(std::move(task));
  const std::uint64_t ticket = ++num_queued_;
  work_changed_.notify_all();
  if (wait) work_changed_.wait(lock, [&] { return num_done_ >= ticket; });
}

void FakeCupti::poke_callbacks(bool with_buffer) {
  run_on_worker(
      [this, with_buffer] {
        if (with_buffer) deliver({}, 0);
        node_changed(cupti::kGraphNodeDestroyStarting, graph_nodes.size() - 1, 0);
      },
      true);
}

void FakeCupti::withhold_buffer(bool withholds) {
  if (withholds && withheld_ == nullptr) {
    std::size_t size = 0;
    std::size_t max_num_records = 0;
    requested_(&withheld_, &size, &max_num_records);
  } else if (!withholds && withheld_ != nullptr) {
    completed_(nullptr, 0, std::exchange(withheld_, nullptr), 0, 0);
  }
}

void FakeCupti::finish_kernels() {
  const std::scoped_lock lock(mutex_);
  kernels_go_on = false;
  std::ranges::move(std::exchange(running_, {}), std::back_inserter(pending_));
}

void FakeCupti::deliver(std::vector<Bytes> records, std::uint64_t order) {
  cupti::BufferRequested requested = nullptr;
  cupti::BufferCompleted completed = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    requested = requested_;
    completed = completed_;
  }
  if (requested == nullptr) return;
  std::mt19937_64 random(order);
  std::ranges::shuffle(records, random);
  struct Buffer {
    std::uint8_t* data;
    std::size_t size, valid;
  };
  std::vector<Buffer> buffers;
  for (std::size_t i = 0; i <= records.size(); ++i) {
    if (i % records_per_buffer == 0) {  // with no records an empty buffer
      Buffer buffer{};
      std::size_t max_num_records = 1;
      requested(&buffer.data, &buffer.size, &max_num_records);
      buffers.push_back(buffer);
    }
    if (i == records.size()) break;
    std::ranges::copy(records[i], reinterpret_cast<std::byte*>(buffers.back().data + buffers.back().valid));
    buffers.back().valid += records[i].size();
  }
  std::ranges::shuffle(buffers, random);
  const auto complete_all = [buffers, completed] {
    for (const Buffer& buffer : buffers) completed(nullptr, 0, buffer.data, buffer.size, buffer.valid);
  };
  switch (records.empty() ? Delivery::kInFlush : delivery.load()) {
    case Delivery::kInFlush:
      complete_all();
      break;
    case Delivery::kAfterFlush:
      run_on_worker(
          [complete_all] {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            complete_all();
          },
          false);
      break;
    case Delivery::kNever: {
      const std::scoped_lock lock(mutex_);
      for (const Buffer& buffer : buffers) held_.push_back(buffer.data);
    }
  }
}

void FakeCupti::deliver_broken_buffer() {
  run_on_worker(
      [this] {
        std::uint8_t* data = nullptr;
        std::size_t size = 0;
        std::size_t max_num_records = 0;
        requested_(&data, &size, &max_num_records);
        const Bytes whole = forge_kernel({.name = "whole", .correlation = 4'000'000'000});
        std::ranges::copy(whole, reinterpret_cast<std::byte*>(data));
        std::ranges::copy(whole, reinterpret_cast<std::byte*>(data + whole.size()));
        completed_(nullptr, 0, data, size, 2 * whole.size() - 8);
      },
      true);
}

std::int64_t FakeCupti::launch(const std::vector<Launch>& kernels) {
  constexpr std::int64_t kKernelNs = 1000;
  const std::scoped_lock lock(mutex_);
  const std::uint32_t correlation = next_correlation_++;
  const std::int64_t begin_ns = steady_now_ns();
  const std::vector<std::uint64_t>& ids = external_ids_[std::this_thread::get_id()];
  if (enabled_.contains(cupti::kRuntime)) {
    if (!ids.empty() && enabled_.contains(cupti::kExternalCorrelation)) {
      pending_.push_back(forge_correlation(correlation, ids.back()));
    }
    pending_.push_back(forge_bare(cupti::kRuntime));
  }
  if (!enabled_.contains(cupti::kConcurrentKernel) || !records_kernels) return begin_ns;
  auto start = static_cast<std::uint64_t>(begin_ns + kClockAheadNs);
  for (const Launch& kernel : kernels) {
    std::vector<Bytes>& records = kernels_go_on ? running_ : pending_;
    records.push_back(forge_kernel({.name = kernel.name,
                                    .correlation = correlation,
                                    .start = start,
                                    .end = start + kKernelNs,
                                    .graph_node = kernel.graph_node,
                                    .stream = kernel.stream}));
    start += kKernelNs;
  }
  return begin_ns;
}

void FakeCupti::add_record(Bytes record) {
  const std::scoped_lock lock(mutex_);
  pending_.push_back(std::move(record));
}

void FakeCupti::node_changed(std::uint32_t id, std::uint64_t node, std::uint64_t original) {
  cupti::Callback callback = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    if (!subscribed_) return;
    callback = callback_;
  }
  const cupti::GraphData graph{.node = node_at(node), .original_node = node_at(original)};
  const cupti::ResourceData resource{.descriptor = &graph};
  callback(nullptr, cupti::kResourceDomain, id, &resource);
}

void FakeCupti::create_node(std::uint64_t node) { node_changed(cupti::kGraphNodeCreated, node, 0); }
void FakeCupti::clone_node(std::uint64_t node, std::uint64_t original) {
  node_changed(cupti::kGraphNodeCloned, node, original);
}
void FakeCupti::destroy_node(std::uint64_t node) { node_changed(cupti::kGraphNodeDestroyStarting, node, 0); }

int FakeCupti::num_calls(const std::string& function) const {
  const std::scoped_lock lock(mutex_);
  const auto found = calls_.find(function);
  return found == calls_.end() ? 0 : found->second;
}

std::set<std::uint32_t> FakeCupti::enabled() const {
  const std::scoped_lock lock(mutex_);
  return enabled_;
}

std::set<std::uint32_t> FakeCupti::ever_enabled() const {
  const std::scoped_lock lock(mutex_);
  return ever_enabled_;
}

bool FakeCupti::is_subscribed() const {
  const std::scoped_lock lock(mutex_);
  return subscribed_;
}

std::size_t FakeCupti::num_held_buffers() const {
  const std::scoped_lock lock(mutex_);
  return held_.size();
}

}  // namespace flex::testing
