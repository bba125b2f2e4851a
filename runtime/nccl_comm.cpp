#include "runtime/nccl_comm.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "base/log.h"
#include "base/require.h"
#include "kernels/cuda_check.h"
#include "kernels/stream.h"
#include "kernels/tensor.h"

namespace flex {
namespace {

using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::timed_mutex>;

constexpr std::chrono::microseconds kPoll{20};
/// A caller inside NCCL notices a failed world within a poll; one that does not is stuck there.
constexpr std::chrono::seconds kStuckCaller{2};

ncclConfig_t nonblocking_config() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

bool is_failure(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

std::string failure_text(ncclResult_t result, ncclComm_t comm) {
  const char* const detail = ncclGetLastError(comm);
  const bool tells_more = detail != nullptr && *detail != '\0';
  std::string text = tells_more ? fmt::format("{} ({})", ncclGetErrorString(result), detail)
                                : std::string(ncclGetErrorString(result));
  for (char& c : text) c = c == '\n' ? ' ' : c;  // a message is one line
  return text;
}

}  // namespace

std::string nccl_version_text() {
  int version = 0;
  check_nccl(ncclGetVersion(&version), "ncclGetVersion");
  constexpr int kMajor = 10'000;
  constexpr int kMinor = 100;
  return fmt::format("NCCL {}.{}.{}", version / kMajor, version % kMajor / kMinor, version % kMinor);
}

void check_nccl(ncclResult_t result, std::string_view what, ncclComm_t comm) {
  if (!is_failure(result)) [[likely]] {
    return;
  }
  fail<CommError>("{} failed: {}", what, failure_text(result, comm));
}

void NcclComm::check(ncclResult_t result, std::string_view what) const {
  // A call on a communicator that is being aborted fails for that alone.
  if (is_failure(result)) channel_.require_alive();
  check_nccl(result, what, comm_);
}

NcclComm::NcclComm(ControlChannel& channel, const ncclUniqueId& id) : channel_(channel) {
  ncclConfig_t config = nonblocking_config();
  check(ncclCommInitRankConfig(&comm_, channel.world(), id, channel.rank(), &config),
        "ncclCommInitRankConfig");
  Lock lock(mutex_);
  try {
    await(lock, "ncclCommInitRankConfig", [&] {
      channel.abort(fmt::format(
          "rank {}: NCCL did not connect all {} ranks within {} ms; NCCL_DEBUG=INFO shows how far it comes",
          channel.rank(), channel.world(), channel.deadline().count()));
    });
  } catch (const CommError&) {
    lock.unlock();
    abort();
    throw;
  }
}

void NcclComm::await(Lock& lock, std::string_view what, const OnDeadline& on_deadline) {
  auto until = Clock::now() + channel_.deadline();
  for (;;) {
    channel_.require_alive();  // first: after an abort the handle is gone
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    check(state, what);
    if (state == ncclSuccess) return;
    if (Clock::now() > until) {
      on_deadline();
      until = Clock::now() + channel_.deadline();
    }
    lock.unlock();  // for the thread that watches or aborts
    std::this_thread::sleep_for(kPoll);
    lock.lock();
  }
}

void NcclComm::group(std::string_view what, const std::function<void(ncclComm_t)>& calls) {
  Lock lock(mutex_);
  channel_.require_alive();
  check(ncclGroupStart(), "ncclGroupStart");
  try {
    calls(comm_);
  } catch (...) {
    static_cast<void>(ncclGroupEnd());  // a group that stays open would swallow this thread's later calls
    throw;
  }
  check(ncclGroupEnd(), what);
  await(lock, what, [] {});  // the world watches over operations
}

std::unique_ptr<NcclComm> NcclComm::split(int color, int key) {
  constexpr std::string_view kName = "ncclCommSplit";
  // NCCL writes here when it is done, in its own time: after a failure the place is left to it.
  auto place = std::make_unique<ncclComm_t>(nullptr);
  std::unique_ptr<NcclComm> child;
  const auto on_deadline = [&] {
    channel_.abort(fmt::format("rank {}: NCCL did not split its communicator within {} ms", channel_.rank(),
                               channel_.deadline().count()));
  };
  try {
    Lock lock(mutex_);
    channel_.require_alive();
    ncclConfig_t config = nonblocking_config();
    check(ncclCommSplit(comm_, color, key, place.get(), &config), kName);
    await(lock, kName, on_deadline);  // until then the place is empty, and the parent is busy
    lock.unlock();
    if (*place == nullptr) return nullptr;
    child = std::make_unique<NcclComm>(channel_, *place);
    Lock child_lock(child->mutex_);
    child->await(child_lock, kName, on_deadline);
  } catch (const CommError&) {
    if (child != nullptr) child->abort();
    static_cast<void>(place.release());
    throw;
  }
  return child;
}

std::string NcclComm::failure() {
  const Lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || comm_ == nullptr) return {};
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
  if (is_failure(asked)) return failure_text(asked, comm_);
  return is_failure(state) ? failure_text(state, comm_) : std::string();
}

void NcclComm::begin_finish() noexcept {
  const Lock lock(mutex_);
  if (comm_ == nullptr) return;
  const ncclResult_t result = ncclCommFinalize(comm_);
  if (is_failure(result)) log_error("ncclCommFinalize failed: {}", failure_text(result, comm_));
}

bool NcclComm::finished() noexcept {
  const Lock lock(mutex_);
  if (comm_ == nullptr) return true;
  ncclResult_t state = ncclSuccess;
  if (ncclCommGetAsyncError(comm_, &state) == ncclSuccess && state == ncclInProgress) return false;
  const ncclResult_t result = ncclCommDestroy(comm_);
  if (is_failure(result)) log_error("ncclCommDestroy failed: {}", failure_text(result, comm_));
  comm_ = nullptr;
  return true;
}

void NcclComm::abort() noexcept {
  const Lock lock(mutex_, kStuckCaller);  // who does not let go of it is stuck in NCCL, and freed by this
  if (comm_ == nullptr) return;
  const ncclResult_t result = ncclCommAbort(comm_);
  if (is_failure(result)) log_error("ncclCommAbort failed: {}", ncclGetErrorString(result));
  comm_ = nullptr;
}

namespace {

/// Waits for a communicator that nobody else watches over.
void await_ready(ncclComm_t comm, std::string_view what, SteadyTime until) {
  for (;;) {
    ncclResult_t state = ncclSuccess;
    check_nccl(ncclCommGetAsyncError(comm, &state), "ncclCommGetAsyncError", comm);
    check_nccl(state, what, comm);
    if (state == ncclSuccess) return;
    require<CommError>(Clock::now() < until,
                       "{} of a communicator of the caller's did not end within the deadline", what);
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace

ncclComm_t duplicate_blocking(ncclComm_t comm, int rank, std::chrono::milliseconds deadline) {
  constexpr std::string_view kName = "ncclCommSplit";
  ncclConfig_t config = nonblocking_config();
  auto place = std::make_unique<ncclComm_t>(nullptr);
  const SteadyTime until = Clock::now() + deadline;
  try {
    check_nccl(ncclCommSplit(comm, 0, rank, place.get(), &config), kName, comm);
    await_ready(comm, kName, until);
    await_ready(*place, kName, until);
  } catch (const CommError&) {
    static_cast<void>(place.release());  // NCCL may still write there
    throw;
  }
  return *place;
}

void broadcast_bytes_blocking(ncclComm_t comm, void* bytes, std::size_t count, Device device,
                              std::chrono::milliseconds deadline) {
  constexpr std::string_view kName = "ncclBroadcast";
  const SteadyTime until = Clock::now() + deadline;
  Tensor buffer(DType::kU8, {static_cast<std::int64_t>(count)}, device);
  Stream stream(device);
  Event done(device);
  FLEX_CUDA_CHECK(cudaMemcpy(buffer.as<void>(), bytes, count, cudaMemcpyHostToDevice));
  check_nccl(ncclBroadcast(buffer.as<void>(), buffer.as<void>(), count, ncclInt8, 0, comm,
                           static_cast<cudaStream_t>(stream.native())),
             kName, comm);
  await_ready(comm, kName, until);
  stream.record(done);
  while (!done.done()) {
    require<CommError>(Clock::now() < until, "{} did not end within {} ms", kName, deadline.count());
    std::this_thread::sleep_for(kPoll);
  }
  FLEX_CUDA_CHECK(cudaMemcpy(bytes, buffer.as<void>(), count, cudaMemcpyDeviceToHost));
}

}  // namespace flex
