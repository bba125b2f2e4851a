#include "runtime/nccl_world.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/log.h"
#include "kernels/cuda_check.h"

namespace flex {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kLook{5};
/// NCCL frees the device within this time of an abort, or not at all.
constexpr milliseconds kAbortTime{3000};
/// An error of NCCL waits so long for the hub's word before it is the reason itself.
constexpr milliseconds kHubsTurn{500};
constexpr std::size_t kLinesOfRecord = 8;

/// Makes the process's context before anybody waits for this rank.
JoinOptions prepared(JoinOptions&& options, Device device) {
  require_usable(device);
  FLEX_CUDA_CHECK(cudaSetDevice(device.index));
  FLEX_CUDA_CHECK(cudaFree(nullptr));
  return std::move(options);
}

}  // namespace

NcclWorld::NcclWorld(JoinOptions options, int ranks_per_node, Device device, FileDescriptor listener)
    : ControlWorld(prepared(std::move(options), device), ranks_per_node, std::move(listener)),
      device_(device),
      watcher_([this](const std::stop_token& stop) { run(stop); }) {}

NcclWorld::~NcclWorld() {
  watcher_ = {};  // stops and joins
  if (channel().aborted()) return;
  finish_all();
}

std::shared_ptr<NcclComm> NcclWorld::adopt(std::unique_ptr<NcclComm> comm) {
  std::shared_ptr<NcclComm> shared = std::move(comm);
  const std::lock_guard lock(mutex_);
  if (shared != nullptr) comms_.push_back(shared);
  return shared;
}

void NcclWorld::retire(const std::shared_ptr<NcclComm>& comm) noexcept {
  if (comm == nullptr || channel().aborted()) return;
  comm->begin_finish();
  const std::lock_guard lock(mutex_);
  std::erase(comms_, comm);
  retired_.push_back(comm);
}

std::unique_ptr<NcclOperation> NcclWorld::new_operation() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<NcclOperation>(device_);
  std::unique_ptr<NcclOperation> operation = std::move(idle_.back());
  idle_.pop_back();
  operation->entered = false;
  operation->num_deadlines = 0;
  operation->queued.store(false);
  return operation;
}

NcclOperation& NcclWorld::watch(std::unique_ptr<NcclOperation> operation) {
  const std::lock_guard lock(mutex_);
  return *watched_.emplace_back(std::move(operation));
}

void NcclWorld::run(const std::stop_token& stop) {
  cudaSetDevice(device_.index);
  while (!stop.stop_requested() && !channel().aborted()) {
    try {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stop, kLook, [] { return false; });
      look(Clock::now());
      lock.unlock();
      look_for_errors();
    } catch (const std::exception& error) {
      channel().abort(fmt::format("rank {} failed in {}: {}", channel().rank(), channel().record().current(),
                                  error.what()));
    }
  }
  if (channel().aborted()) end_after_failure(stop);
}

void NcclWorld::look(SteadyTime now) {
  for (auto& operation : watched_) {
    if (look_at(*operation, now)) idle_.push_back(std::move(operation));
  }
  std::erase(watched_, nullptr);
  sweep_retired();
}

bool NcclWorld::look_at(NcclOperation& operation, SteadyTime now) {
  FlightRecord& record = channel().record();
  if (!operation.entered) {
    if (!operation.begin.done()) return false;
    operation.entered = true;
    operation.entered_at = now;
    record.enter(operation.ticket);
  }
  // Before it is queued, NCCL may wait for a peer to connect to.
  if (operation.queued.load() && operation.end.done()) {
    record.finish(operation.ticket);
    return true;
  }
  if (now - operation.entered_at < (operation.num_deadlines + 1) * channel().deadline()) return false;
  if (++operation.num_deadlines <= kMostDeadlines) {
    channel().report_stall(operation.id);
  } else {
    channel().abort(
        fmt::format("rank {}: all ranks have come to {}, but it did not end within {} ms; NCCL_DEBUG=INFO "
                    "shows NCCL's network",
                    channel().rank(), record.current(), kMostDeadlines * channel().deadline().count()));
  }
  return false;
}

void NcclWorld::look_for_errors() {
  std::vector<std::shared_ptr<NcclComm>> comms;
  {
    const std::lock_guard lock(mutex_);
    comms = comms_;
  }
  for (const auto& comm : comms) {
    const std::string failure = comm->failure();
    if (failure.empty() || channel().aborted()) continue;
    // A peer that is gone breaks NCCL's connections too; the hub knows whose fault that is, and says so soon.
    for (milliseconds waited{0}; waited < kHubsTurn && !channel().aborted(); waited += kLook) {
      std::this_thread::sleep_for(kLook);
    }
    channel().abort(fmt::format("rank {}: NCCL failed in {}: {}", channel().rank(),
                                channel().record().current(), failure));
  }
}

void NcclWorld::sweep_retired() noexcept {
  std::erase_if(retired_, [](const std::shared_ptr<NcclComm>& comm) { return comm->finished(); });
}

void NcclWorld::end_after_failure(const std::stop_token& stop) {
  std::string text =
      fmt::format("flexmoe: rank {}: the last operations of its communicators:\n", channel().rank());
  const std::vector<std::string> lines = channel().record().lines(kLinesOfRecord);
  for (const std::string& line : lines)
    text += fmt::format("flexmoe: rank {}:   {}\n", channel().rank(), line);
  if (!lines.empty()) fmt::print(stderr, "{}", text);
  abort_all();
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, stop, kAbortGrace, [] { return false; });
  if (stop.stop_requested()) return;
  fmt::print(stderr, "flexmoe: rank {} still runs {} s after its world failed; ending it. {}\n",
             channel().rank(), std::chrono::duration_cast<std::chrono::seconds>(kAbortGrace).count(),
             channel().reason());
  std::fflush(stderr);
  std::_Exit(1);
}

void NcclWorld::abort_all() noexcept {
  std::vector<std::shared_ptr<NcclComm>> all;
  {
    const std::lock_guard lock(mutex_);
    all = comms_;
    all.insert(all.end(), retired_.begin(), retired_.end());
    comms_.clear();
    retired_.clear();
  }
  const auto left = std::make_shared<std::atomic<std::size_t>>(all.size());
  for (const auto& comm : all) {
    // Not joined: an abort that hangs must not keep the process from ending.
    std::thread([comm, left, index = device_.index] {
      cudaSetDevice(index);
      comm->abort();
      left->fetch_sub(1);
    }).detach();
  }
  const SteadyTime until = Clock::now() + kAbortTime;
  while (left->load() > 0 && Clock::now() < until) std::this_thread::sleep_for(kLook);
  if (left->load() > 0) log_error("NCCL did not let go of {} communicators", left->load());
}

void NcclWorld::finish_all() noexcept {
  for (const auto& comm : comms_) comm->begin_finish();
  retired_.insert(retired_.end(), comms_.begin(), comms_.end());
  comms_.clear();
  const SteadyTime until = Clock::now() + channel().deadline();
  while (!retired_.empty() && !channel().aborted() && Clock::now() < until) {
    sweep_retired();
    std::this_thread::sleep_for(milliseconds(1));
  }
  if (!retired_.empty()) abort_all();
}

}  // namespace flex
