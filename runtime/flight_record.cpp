#include "runtime/flight_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace flex {
namespace {

/// What the rank sends, or gets where it sends nothing. Read now: later the sizes of a ragged call are gone.
std::int64_t payload_bytes(const CollectiveCall& call, std::int64_t size) {
  switch (call.kind) {
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kRaggedAllToAll:
    case CollectiveKind::kReduceScatter: {
      std::int64_t sum = 0;
      for (int peer = 0; peer < size; ++peer) sum += call.bytes_to(peer);
      return sum;
    }
    case CollectiveKind::kAllGather:
    case CollectiveKind::kGatherHost:
      return call.bytes * size;
    default:
      return call.bytes;
  }
}

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

FlightRecord::Entry* FlightRecord::find_locked(std::uint64_t ticket) {
  if (ticket < first_ || ticket - first_ >= entries_.size()) return nullptr;
  return &entries_[ticket - first_];
}

std::uint64_t FlightRecord::call(std::shared_ptr<const GroupOfRanks> group, std::uint64_t number,
                                 const CollectiveCall& call) {
  const auto size = std::ssize(group->world_ranks);
  const std::lock_guard lock(mutex_);
  std::uint64_t& num_calls = num_calls_[group->id];
  num_calls = std::max(num_calls, number + 1);
  entries_.push_back({.group = std::move(group),
                      .number = number,
                      .call = call,
                      .bytes = payload_bytes(call, size),
                      .called = Clock::now()});
  while (entries_.size() > kMostKept && entries_.front().state == OperationState::kDone) {
    entries_.pop_front();
    ++first_;
  }
  return first_ + entries_.size() - 1;
}

void FlightRecord::enter(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  Entry* const entry = find_locked(ticket);
  if (entry == nullptr || entry->state != OperationState::kQueued) return;
  entry->state = OperationState::kEntered;
  entry->entered = Clock::now();
}

void FlightRecord::finish(std::uint64_t ticket) {
  const std::lock_guard lock(mutex_);
  Entry* const entry = find_locked(ticket);
  if (entry == nullptr || entry->state == OperationState::kDone) return;
  entry->done = Clock::now();
  if (entry->state == OperationState::kQueued) entry->entered = entry->done;
  entry->state = OperationState::kDone;
}

ReportMessage FlightRecord::report() const {
  const std::lock_guard lock(mutex_);
  ReportMessage report;
  for (const auto& [group, num_calls] : num_calls_) report.groups.push_back({group, num_calls});
  for (const Entry& entry : entries_) {
    report.operations.push_back({.id = {entry.group->id, entry.number},
                                 .state = entry.state,
                                 .operation = operation_name(entry.call.kind, entry.call.traffic),
                                 .call = describe(entry.call)});
  }
  return report;
}

std::string FlightRecord::current() const {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) return {};
  const auto busy = std::ranges::find(entries_, OperationState::kEntered, &Entry::state);
  const Entry& entry = busy == entries_.end() ? entries_.back() : *busy;
  return fmt::format("{} #{} in group {}", operation_name(entry.call.kind, entry.call.traffic), entry.number,
                     group_text(entry.group->world_ranks));
}

std::vector<std::string> FlightRecord::lines(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  std::vector<std::string> lines;
  for (std::size_t i = entries_.size() - std::min(most, entries_.size()); i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    std::string state;
    switch (entry.state) {
      case OperationState::kQueued:
        state = fmt::format("queued for {:.3f} s", seconds(now - entry.called));
        break;
      case OperationState::kEntered:
        state = fmt::format("waiting for {:.3f} s", seconds(now - entry.entered));
        break;
      case OperationState::kDone:
        state = fmt::format("done after {:.3f} s", seconds(entry.done - entry.called));
        break;
    }
    lines.push_back(fmt::format("#{} {}, in group {}: {} bytes, {}", entry.number, describe(entry.call),
                                group_text(entry.group->world_ranks), entry.bytes, state));
  }
  return lines;
}

}  // namespace flex
