#include "profiler/cupti_session.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "profiler/cupti_library.h"
#include "profiler/mark_source.h"

namespace flex {
namespace {

// External correlation records come with the records of calls: both kinds of calls, since libraries make
// either.
constexpr std::array kKinds = {
    cupti::kConcurrentKernel, cupti::kMemcpy,  cupti::kMemset, cupti::kExternalCorrelation,
    cupti::kOverhead,         cupti::kRuntime, cupti::kDriver};

/// Gives a filled buffer back, whatever happens while it is read.
class ReadBuffer {
 public:
  ReadBuffer(CuptiBuffers& buffers, CuptiBuffers::Filled filled) : buffers_(buffers), filled_(filled) {}
  ~ReadBuffer() { buffers_.recycle(filled_.data); }
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  void read_into(CuptiRecords& records, const cupti::Api& api) const {
    cupti::Record* record = nullptr;
    std::int32_t result = cupti::kSuccess;
    while ((result = api.next_record(filled_.data, filled_.valid_bytes, &record)) == cupti::kSuccess) {
      const auto offset = static_cast<std::size_t>(reinterpret_cast<std::uint8_t*>(record) - filled_.data);
      records.add(record, filled_.valid_bytes - std::min(offset, filled_.valid_bytes));
    }
    if (result != cupti::kMaxLimitReached) records.add(nullptr, 0);  // the rest of the buffer cannot be read
  }

 private:
  CuptiBuffers& buffers_;
  CuptiBuffers::Filled filled_;
};

}  // namespace

void CuptiSession::check(const char* call, std::int32_t result) const {
  if (result != cupti::kSuccess) fail<DeviceError>("{}", describe_cupti_failure(api_, call, result));
}

void CuptiSession::enable_records() {
  for (const std::uint32_t kind : kKinds) {
    const std::int32_t result = api_.enable(kind);
    if (result == cupti::kSuccess) continue;
    disable_records();
    fail<DeviceError>("{} for records of kind {}",
                      describe_cupti_failure(api_, "cuptiActivityEnable", result), kind);
  }
}

bool CuptiSession::disable_records() noexcept {
  bool done = true;
  for (const std::uint32_t kind : kKinds) done = api_.disable(kind) == cupti::kSuccess && done;
  return done;
}

// CUPTI's clock is read between two readings of the host's: the closest pair says most.
void CuptiSession::set_clock() {
  constexpr int kReadings = 8;
  std::int64_t best_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t offset_ns = 0;
  for (int i = 0; i < kReadings; ++i) {
    std::uint64_t cupti_ns = 0;
    const std::int64_t before_ns = steady_now_ns();
    check("cuptiGetTimestamp", api_.get_timestamp(&cupti_ns));
    const std::int64_t apart_ns = steady_now_ns() - before_ns;
    if (apart_ns >= best_ns) continue;
    best_ns = apart_ns;
    offset_ns = before_ns + apart_ns / 2 - static_cast<std::int64_t>(cupti_ns);
  }
  const std::scoped_lock lock(mutex_);
  offset_ns_ = offset_ns;
  clock_error_ns_ = (best_ns + 1) / 2;
}

void CuptiSession::read_filled() {
  CuptiRecords fresh;
  for (const CuptiBuffers::Filled& filled : callbacks_.buffers().take_filled()) {
    ReadBuffer(callbacks_.buffers(), filled).read_into(fresh, api_);
  }
  fresh.add_lost(callbacks_.take_lost());
  const std::scoped_lock lock(mutex_);
  for (const std::uint64_t node : std::exchange(destroyed_nodes_, {})) records_.name_node(node, 0);
  for (const CuptiCallbacks::NodeEvent& event : callbacks_.take_node_events()) {
    switch (event.kind) {
      case CuptiCallbacks::NodeEvent::Kind::kCaptured:
        records_.name_node(event.node, event.source);
        break;
      case CuptiCallbacks::NodeEvent::Kind::kCloned:
        records_.clone_node(event.node, event.source);
        break;
      case CuptiCallbacks::NodeEvent::Kind::kDestroyed:
        destroyed_nodes_.push_back(event.node);
        break;
    }
  }
  records_.merge(std::move(fresh));
}

std::vector<CuptiActivity> CuptiSession::take(std::int32_t local_rank, const CuptiRecords::Keep& keep) {
  const std::scoped_lock lock(mutex_);
  std::vector<CuptiActivity> activities = records_.take(local_rank, keep);
  for (CuptiActivity& activity : activities) {
    activity.begin_ns += offset_ns_;
    activity.end_ns += offset_ns_;
  }
  return activities;
}

std::vector<CuptiOverhead> CuptiSession::take_overheads() {
  const std::scoped_lock lock(mutex_);
  std::vector<CuptiOverhead> overheads = records_.take_overheads();
  for (CuptiOverhead& overhead : overheads) {
    overhead.begin_ns += offset_ns_;
    overhead.end_ns += offset_ns_;
  }
  return overheads;
}

void CuptiSession::push(const WorkId& id, bool records) {
  const std::uint64_t packed = pack(id);
  check("cuptiActivityPushExternalCorrelationId",
        api_.push_external_id(cupti::kExternalCustom0, records ? packed : kReservedWorkId));
  CuptiCallbacks::set_current_work(packed);
}

void CuptiSession::pop() {
  CuptiCallbacks::set_current_work(0);
  std::uint64_t last = 0;
  check("cuptiActivityPopExternalCorrelationId", api_.pop_external_id(cupti::kExternalCustom0, &last));
}

CuptiCounts CuptiSession::counts() const {
  const std::scoped_lock lock(mutex_);
  return records_.counts();
}

std::int64_t CuptiSession::clock_error_ns() const {
  const std::scoped_lock lock(mutex_);
  return clock_error_ns_;
}

}  // namespace flex
