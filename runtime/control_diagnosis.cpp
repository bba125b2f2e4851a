#include "runtime/control_diagnosis.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/collective_call.h"

namespace flex {
namespace {

enum class Progress { kUnknown, kNotCalled, kQueued, kThere };

const FlightOperation* find_operation(const ReportMessage& report, const CallId& id) {
  const auto found = std::ranges::find(report.operations, id, &FlightOperation::id);
  return found == report.operations.end() ? nullptr : &*found;
}

/// How far `rank` is with call `id` of a group that it belongs to.
Progress progress_of(const Evidence& evidence, int rank, const CallId& id) {
  const auto report = evidence.reports.find(rank);
  if (report == evidence.reports.end()) return Progress::kUnknown;
  if (const FlightOperation* operation = find_operation(report->second, id)) {
    return operation->state == OperationState::kQueued ? Progress::kQueued : Progress::kThere;
  }
  const auto group = std::ranges::find(report->second.groups, id.group, &GroupProgress::group);
  const bool called = group != report->second.groups.end() && group->num_calls > id.number;
  return called ? Progress::kThere : Progress::kNotCalled;  // done so long ago that the record has it no more
}

PeerWait device_wait(const Evidence& evidence, int rank, const FlightOperation& operation,
                     const std::vector<int>& members) {
  PeerWait wait{.rank = rank,
                .place = fmt::format("{} in group {}", operation.operation, group_text(members)),
                .missing = {},
                .not_called = {}};
  for (const int member : members) {
    const Progress progress = progress_of(evidence, member, operation.id);
    if (progress == Progress::kThere) continue;
    wait.missing.push_back(member);
    if (progress == Progress::kNotCalled) wait.not_called.push_back(member);
  }
  return wait;
}

bool misses(const Waiting& waiting, int rank) {
  return std::ranges::find(waiting.wait.missing, rank) != waiting.wait.missing.end();
}

/// Who called what as call `id`, if not all called the same.
std::optional<std::string> disagreement(const CallId& id, const std::vector<int>& members,
                                        const Evidence& evidence) {
  std::vector<std::string> calls;
  std::vector<int> callers;
  for (const int member : members) {
    const auto report = evidence.reports.find(member);
    if (report == evidence.reports.end()) continue;
    const FlightOperation* operation = find_operation(report->second, id);
    if (operation == nullptr) continue;
    calls.push_back(operation->call);
    callers.push_back(member);
  }
  if (std::ranges::all_of(calls, [&](const std::string& call) { return call == calls[0]; }))
    return std::nullopt;
  return disagreement_text(calls, callers, members);
}

}  // namespace

std::vector<Waiting> all_waits(const Evidence& evidence) {
  std::vector<Waiting> waits = evidence.host_waits;
  for (const auto& [rank, report] : evidence.reports) {
    for (const FlightOperation& operation : report.operations) {
      const auto group = evidence.groups.find(operation.id.group);
      if (operation.state != OperationState::kEntered || group == evidence.groups.end()) continue;
      const bool at_meeting = std::ranges::any_of(evidence.host_waits, [&](const Waiting& waiting) {
        return waiting.wait.rank == rank && waiting.id == operation.id;
      });
      if (at_meeting) continue;
      PeerWait wait = device_wait(evidence, rank, operation, group->second);
      if (!wait.missing.empty()) waits.push_back({.wait = std::move(wait), .id = operation.id, .since = {}});
    }
  }
  return waits;
}

std::string explain_loss(const LostRank& lost, const Evidence& evidence) {
  const std::vector<Waiting> waits = all_waits(evidence);
  const auto waiting =
      std::ranges::find_if(waits, [&](const Waiting& each) { return misses(each, lost.rank); });
  std::string during;
  if (waiting != waits.end()) {
    const std::vector<int>& members = evidence.groups.at(waiting->id.group);
    const std::string& place = waiting->wait.place;
    // `all_to_all (dispatch) #17 in group {0,1}`
    const std::string group = " in group " + group_text(members);
    during = fmt::format(" during {} #{}{}", place.substr(0, place.size() - group.size()), waiting->id.number,
                         group);
  } else if (!lost.last.empty()) {
    during = fmt::format(" during or after {}", lost.last);
  } else {
    during = " before its first operation";
  }
  if (lost.silent) {
    return fmt::format("rank {} does not answer{}: nothing came from its process for {} ms; is it stopped?",
                       lost.rank, during, lost.silence.count());
  }
  return fmt::format("rank {} is gone{}: its process ended", lost.rank, during);
}

std::optional<std::string> explain_stall(int rank, const CallId& id, const Evidence& evidence) {
  const auto group = evidence.groups.find(id.group);
  if (group == evidence.groups.end()) return std::nullopt;
  if (auto text = disagreement(id, group->second, evidence)) return text;
  std::vector<PeerWait> waits;
  std::optional<std::size_t> own;
  for (Waiting& each : all_waits(evidence)) {
    if (each.wait.rank == rank && each.id == id) own = waits.size();
    waits.push_back(std::move(each.wait));
  }
  if (!own) return std::nullopt;
  return explain_wait(waits, *own, evidence.deadline);
}

std::string settings_difference(const std::map<int, std::vector<Setting>>& settings) {
  if (settings.empty()) return {};
  const auto& [first_rank, reference] = *settings.begin();
  std::string differences;
  for (const Setting& expected : reference) {
    for (const auto& [rank, values] : settings) {
      const auto own = std::ranges::find(values, expected.name, &Setting::name);
      const std::string value = own == values.end() ? "(unknown)" : own->value;
      if (value == expected.value) continue;
      differences += fmt::format("{}{} is {} on rank {} and {} on rank {}", differences.empty() ? "" : "; ",
                                 expected.name, expected.value, first_rank, value, rank);
      break;  // one rank of each setting says enough
    }
  }
  return differences;
}

}  // namespace flex
