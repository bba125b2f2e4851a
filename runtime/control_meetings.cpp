#include "runtime/control_meetings.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/require.h"
#include "runtime/collective_call.h"

namespace flex {
namespace {

std::string place_of(const ArrivalMessage& arrival, const std::vector<int>& members) {
  return fmt::format("{} in group {}", arrival.operation, group_text(members));
}

/// The data of a complete meeting, moved to where it goes. A piece for all is copied for all but the last.
std::vector<CompleteMessage> deliver(std::vector<ArrivalMessage>&& arrivals) {
  std::vector<CompleteMessage> deliveries;
  const std::size_t size = arrivals.size();
  for (std::size_t to = 0; to < size; ++to) {
    CompleteMessage& delivery =
        deliveries.emplace_back(CompleteMessage{.group = arrivals[to].group, .number = arrivals[to].number});
    for (ArrivalMessage& arrival : arrivals) {
      const bool shared = arrival.pieces.size() == 1;
      std::string& piece = arrival.pieces[shared ? 0 : to];
      if (shared && to + 1 < size) {
        delivery.pieces.push_back(piece);
      } else {
        delivery.pieces.push_back(std::move(piece));
      }
    }
  }
  return deliveries;
}

}  // namespace

void ControlMeetings::declare(int rank, const GroupMessage& message) {
  const std::set<int> distinct(message.members.begin(), message.members.end());
  const bool valid = !distinct.empty() && distinct.size() == message.members.size() &&
                     *distinct.begin() >= 0 && *distinct.rbegin() < world_ && distinct.contains(rank);
  require<CommError>(valid, "rank {} tells of a group {} of a world of {}", rank, group_text(message.members),
                     world_);
  const auto [group, is_new] = groups_.try_emplace(message.group, message.members);
  require<CommError>(is_new || group->second == message.members,
                     "rank {} says that a group is {}, another rank that it is {}", rank,
                     group_text(message.members), group_text(group->second));
}

ControlMeetings::Outcome ControlMeetings::arrive(int rank, ArrivalMessage&& arrival, SteadyTime now) {
  const auto group = groups_.find(arrival.group);
  require<CommError>(group != groups_.end(), "rank {} calls {} in a group that it did not tell of", rank,
                     arrival.operation);
  const std::vector<int>& members = group->second;
  const std::size_t size = members.size();
  const auto member = std::ranges::find(members, rank);
  require<CommError>(member != members.end(), "rank {} calls {} in group {}", rank, arrival.operation,
                     group_text(members));
  const auto fits = [&](std::size_t count, std::size_t other) { return count == size || count == other; };
  require<CommError>(fits(arrival.pieces.size(), 1) && fits(arrival.sent_bytes.size(), 0) &&
                         arrival.sent_bytes.size() == arrival.expected_bytes.size(),
                     "rank {} calls {} with data for {} ranks, the group has {}", rank, arrival.operation,
                     arrival.pieces.size(), size);
  const CallId id{arrival.group, arrival.number};
  Meeting& meeting = meetings_[id];
  meeting.arrivals.resize(size);
  meeting.since.resize(size);
  const auto at = static_cast<std::size_t>(member - members.begin());
  require<CommError>(!meeting.arrivals[at].has_value(), "rank {} comes twice to {} #{}", rank,
                     place_of(arrival, members), arrival.number);
  meeting.arrivals[at] = std::move(arrival);
  meeting.since[at] = now;
  if (++meeting.num_arrived < size) return {};
  Outcome outcome{.failure = disagreement(members, meeting)};
  if (!outcome.failure.empty()) return outcome;
  std::vector<ArrivalMessage> arrivals;
  for (auto& each : meeting.arrivals) arrivals.push_back(std::move(*each));
  meetings_.erase(id);
  outcome.members = members;
  outcome.deliveries = deliver(std::move(arrivals));
  return outcome;
}

std::string ControlMeetings::disagreement(const std::vector<int>& members, const Meeting& meeting) const {
  const auto arrival = [&](std::size_t at) -> const ArrivalMessage& { return *meeting.arrivals[at]; };
  std::vector<std::string> calls;
  for (std::size_t at = 0; at < members.size(); ++at) calls.push_back(arrival(at).call);
  if (std::ranges::any_of(calls, [&](const std::string& call) { return call != calls[0]; })) {
    return disagreement_text(calls, members, members);
  }
  if (arrival(0).sent_bytes.empty()) return {};
  for (std::size_t from = 0; from < members.size(); ++from) {
    for (std::size_t to = 0; to < members.size(); ++to) {
      const std::int64_t sent = arrival(from).sent_bytes[to];
      const std::int64_t expected = arrival(to).expected_bytes[from];
      if (sent == expected) continue;
      return ragged_disagreement_text(place_of(arrival(from), members), members[from], sent, members[to],
                                      expected);
    }
  }
  return {};
}

std::vector<Waiting> ControlMeetings::waiting() const {
  std::vector<Waiting> waiting;
  for (const auto& [id, meeting] : meetings_) {
    const std::vector<int>& members = groups_.at(id.group);
    std::vector<int> missing;
    for (std::size_t at = 0; at < members.size(); ++at) {
      if (!meeting.arrivals[at].has_value()) missing.push_back(members[at]);
    }
    for (std::size_t at = 0; at < members.size(); ++at) {
      if (!meeting.arrivals[at].has_value()) continue;
      waiting.push_back({.wait = {.rank = members[at],
                                  .place = place_of(*meeting.arrivals[at], members),
                                  .missing = missing,
                                  .not_called = {}},
                         .id = id,
                         .since = meeting.since[at]});
    }
  }
  return waiting;
}

}  // namespace flex
