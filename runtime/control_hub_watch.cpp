#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/collective_call.h"
#include "runtime/control_hub.h"

/// What the hub watches over: who has joined, who is alive, who waits for whom, and what it makes of it.
namespace flex {
namespace {

using std::chrono::milliseconds;

/// A stranger says who it is within this time.
constexpr milliseconds kHelloLimit{5000};
/// How long ranks are asked what they do. They answer at once, unless the machine has more ranks than cores.
constexpr milliseconds kAnswerTime{250};

milliseconds since(SteadyTime then, SteadyTime now) {
  return std::chrono::duration_cast<milliseconds>(now - then);
}

}  // namespace

void ControlHub::lose(ControlConnection& connection, bool silent, SteadyTime now) {
  if (phase_ == Phase::kFailed || connection.left || connection.lost) return;
  connection.lost = true;  // a silent one stays open: should it wake up, it learns what happened
  gone_.insert(connection.rank);
  const LostRank lost{.rank = connection.rank,
                      .silent = silent,
                      .silence = since(connection.last_heard(), now),
                      .last = connection.does};
  if (phase_ == Phase::kJoining) {
    return fail_world(fmt::format("join: rank {} {} before all {} ranks had joined", lost.rank,
                                  silent ? "stopped answering" : "ended", options_.world));
  }
  lost_.push_back(lost);
  inquire(now);
}

void ControlHub::watch(SteadyTime now) {
  // A hub that was stopped itself has heard nobody, and blames nobody for it.
  if (now - last_tick_ > beat_interval(options_.deadline)) {
    for (ControlConnection& connection : connections_) connection.forgive_silence(now);
  }
  last_tick_ = now;
  if (now - last_beat_ >= beat_interval(options_.deadline)) {
    last_beat_ = now;
    for (ControlConnection& connection : connections_) {
      if (connection.rank >= 0 && connection.flushed()) connection.send(FrameKind::kBeat, {});
    }
  }
  for (ControlConnection& connection : connections_) {
    if (connection.closing || connection.lost) continue;
    if (connection.rank < 0) {
      if (since(connection.last_heard(), now) > kHelloLimit) connection.closing = true;
    } else if (since(connection.last_heard(), now) > silence_limit(options_.deadline)) {
      lose(connection, true, now);
    }
  }
  watch_join(now);
  watch_meetings(now);
  if (!inquiry_until_) return;
  const bool all_answered = std::ranges::all_of(connections_, [&](const ControlConnection& each) {
    return each.rank < 0 || each.closing || each.lost || reports_.contains(each.rank);
  });
  if (all_answered || now > *inquiry_until_) conclude();
}

void ControlHub::watch_join(SteadyTime now) {
  if (phase_ != Phase::kJoining || since(began_, now) <= options_.deadline) return;
  std::vector<int> missing;
  for (int rank = 0; rank < options_.world; ++rank) {
    if (!settings_.contains(rank)) missing.push_back(rank);
  }
  fail_world(fmt::format("join: {} of {} did not join within {} ms at {}", ranks_text(missing),
                         options_.world, options_.deadline.count(), options_.where));
}

void ControlHub::watch_meetings(SteadyTime now) {
  if (phase_ != Phase::kRunning || inquiry_until_) return;
  const std::vector<Waiting> waiting = meetings_.waiting();
  const auto longest = std::ranges::min_element(waiting, {}, &Waiting::since);
  if (longest == waiting.end()) return;
  const std::vector<int>& missing = longest->wait.missing;
  const auto left = std::ranges::find_if(missing, [&](int rank) { return gone_.contains(rank); });
  if (left != missing.end()) {
    return fail_world(fmt::format("{}: rank {} has left the job", longest->wait.place, *left));
  }
  if (since(longest->since, now) < options_.deadline) return;
  stalls_.push_back({longest->wait.rank, longest->id});
  inquire(now);
}

void ControlHub::inquire(SteadyTime now) {
  if (phase_ != Phase::kRunning || inquiry_until_) return;
  inquiry_until_ = now + kAnswerTime;
  reports_.clear();
  for (ControlConnection& connection : connections_) {
    if (connection.rank >= 0 && !connection.closing) connection.send(FrameKind::kInquiry, {});
  }
}

void ControlHub::conclude() {
  inquiry_until_.reset();
  const Evidence evidence{.deadline = options_.deadline,
                          .groups = meetings_.groups(),
                          .host_waits = meetings_.waiting(),
                          .reports = std::move(reports_)};
  reports_.clear();
  std::string reason;
  if (!lost_.empty()) reason = explain_loss(lost_.front(), evidence);
  for (const Stall& stall : stalls_) {
    if (!reason.empty()) break;
    reason = explain_stall(stall.rank, stall.id, evidence).value_or("");
  }
  lost_.clear();
  stalls_.clear();
  if (!reason.empty()) fail_world(reason);
}

}  // namespace flex
