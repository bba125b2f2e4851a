// How a session of CUPTI starts and ends.
#include <array>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "profiler/cupti_library.h"
#include "profiler/cupti_session.h"

namespace flex {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array kNodeChanges = {cupti::kGraphNodeCreated, cupti::kGraphNodeCloned,
                                     cupti::kGraphNodeDestroyStarting};
// CUDA 12.0's and the last of CUDA 13's: cupti_abi.h holds for what lies between.
constexpr std::uint32_t kOldestVersion = 18;
constexpr std::uint32_t kNewestVersion = 139999;

/// The session of the process. Never destroyed: its owners may go as late as they like.
struct Registry {
  std::mutex mutex;
  std::condition_variable changed;
  std::weak_ptr<CuptiSession> session;
  bool is_taken = false;  // a session starts, runs or ends
  std::int64_t num_failures = 0;
  std::string failure;  // the last one

  static Registry& instance() {
    static auto* const kInstance = new Registry;
    return *kInstance;
  }
};

}  // namespace

std::variant<std::shared_ptr<CuptiSession>, std::string> CuptiSession::join_blocking(
    const cupti::Api& api, const CuptiSettings& settings) {
  Registry& registry = Registry::instance();
  std::unique_lock lock(registry.mutex);
  const std::int64_t num_failures = registry.num_failures;
  while (registry.is_taken) {
    if (auto running = registry.session.lock()) return running;
    registry.changed.wait(lock);
    if (registry.num_failures != num_failures)
      return registry.failure;  // of the start that this one waited for
  }
  registry.is_taken = true;
  lock.unlock();

  const auto let_go = [](CuptiSession* session) {
    delete session;
    Registry& own = Registry::instance();
    const std::scoped_lock own_lock(own.mutex);
    own.is_taken = false;
    own.changed.notify_all();
  };
  std::shared_ptr<CuptiSession> session;
  std::string failure;
  try {
    std::unique_ptr<CuptiSession> fresh(new CuptiSession(api, settings));
    fresh->start_blocking();
    session = std::shared_ptr<CuptiSession>(fresh.release(), let_go);
  } catch (const std::exception& error) {
    failure = error.what();
  }

  lock.lock();
  registry.session = session;
  if (session == nullptr) {
    registry.is_taken = false;
    ++registry.num_failures;
    registry.failure = failure;
  }
  registry.changed.notify_all();
  if (session == nullptr) return failure;
  return session;
}

void CuptiSession::start_blocking() {
  std::uint32_t version = 0;
  check("cuptiGetVersion", api_.get_version(&version));
  require<DeviceError>(version >= kOldestVersion && version <= kNewestVersion,
                       "CUPTI's interface has the version {}; {} to {} are known", version, kOldestVersion,
                       kNewestVersion);
  callbacks_.set_api(&api_);
  const std::int32_t subscribed = api_.subscribe(&subscriber_, &CuptiCallbacks::resource_changed, nullptr);
  if (subscribed != cupti::kSuccess) subscriber_ = nullptr;
  require<DeviceError>(subscribed != cupti::kMultipleSubscribersNotSupported,
                       "another tool holds CUPTI ({}); one profiler can run at a time",
                       describe_cupti_failure(api_, "cuptiSubscribe", subscribed));
  check("cuptiSubscribe", subscribed);
  for (const std::uint32_t change : kNodeChanges) {
    check("cuptiEnableCallback", api_.enable_callback(1, subscriber_, cupti::kResourceDomain, change));
  }
  check("cuptiActivityRegisterCallbacks",
        api_.register_callbacks(&CuptiCallbacks::requested, &CuptiCallbacks::completed));
  has_callbacks_ = true;
  // What an earlier session left.
  static_cast<void>(callbacks_.take_lost());
  static_cast<void>(callbacks_.take_node_events());
  for (const auto& filled : callbacks_.buffers().take_filled()) callbacks_.buffers().recycle(filled.data);
  set_clock();
  prove_records_arrive_blocking();
}

// A tool that holds CUPTI in another way, or a driver that forbids profiling, may let every call succeed and
// yet no record come.
void CuptiSession::prove_records_arrive_blocking() {
  enable_records();
  is_enabled_ = true;
  check("cuptiActivityPushExternalCorrelationId",
        api_.push_external_id(cupti::kExternalCustom0, kReservedWorkId));
  std::exception_ptr failure;
  try {
    settings_.sentinel();
  } catch (...) {
    failure = std::current_exception();
  }
  std::uint64_t last = 0;
  check("cuptiActivityPopExternalCorrelationId", api_.pop_external_id(cupti::kExternalCustom0, &last));
  if (failure != nullptr) std::rethrow_exception(failure);

  constexpr std::chrono::milliseconds kBetweenFlushes{20};
  const auto deadline = Clock::now() + settings_.sentinel_timeout;
  bool has_arrived = false;
  while (!has_arrived) {
    check("cuptiActivityFlushAll", api_.flush_all(cupti::kFlushForced));
    read_filled();
    has_arrived = records_.take_reserved() > 0;
    if (has_arrived || Clock::now() >= deadline) break;
    static_cast<void>(callbacks_.buffers().wait_filled_blocking(kBetweenFlushes));
  }
  require<DeviceError>(has_arrived, "CUPTI took every call, but sent no record of a kernel within {} ms ({})",
                       settings_.sentinel_timeout.count(), to_string(records_.counts()));
  if (!disable_records()) fail<DeviceError>("CUPTI did not switch its records off");
  is_enabled_ = false;
  records_ = {};
}

CuptiSession::~CuptiSession() {
  const auto log_failure = [&](const char* call, std::int32_t result) {
    if (result == cupti::kSuccess) return true;
    log_warning("profiler: {}", describe_cupti_failure(api_, call, result));
    return false;
  };
  stop_fetching();
  bool is_quiet = nothing_runs();
  if (is_enabled_) is_quiet = disable_records() && is_quiet;
  if (has_callbacks_) {
    is_quiet = log_failure("cuptiActivityFlushAll", api_.flush_all(cupti::kFlushForced)) && is_quiet;
    is_quiet = callbacks_.buffers().wait_returned_blocking(settings_.quiet_timeout) && is_quiet;
  }
  if (subscriber_ == nullptr) {  // not ours: finalizing would take it from who has it
    callbacks_.set_api(nullptr);
    return;
  }
  is_quiet = log_failure("cuptiUnsubscribe", api_.unsubscribe(subscriber_)) && is_quiet;
  if (!is_quiet) {
    log_warning("profiler: CUPTI is not quiet (it holds {} buffers); it stays attached to this process",
                callbacks_.buffers().num_outstanding());
    return;
  }
  callbacks_.set_api(nullptr);
  log_failure("cuptiFinalize", api_.finalize());
}

}  // namespace flex
