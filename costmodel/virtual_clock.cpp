#include "costmodel/virtual_clock.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

constexpr int kHost = static_cast<int>(StreamKind::kHost);
constexpr int kCompute = static_cast<int>(StreamKind::kCompute);
constexpr int kCommunication = static_cast<int>(StreamKind::kCommunication);

template <class T>
auto& at(T& values, std::int32_t index) {
  return values[static_cast<std::size_t>(index)];
}

// Equal times in the order of activities, so that nothing depends on how the heap was filled.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.at_us != b.at_us ? a.at_us > b.at_us : a.activity > b.activity;
};

}  // namespace

void VirtualClock::run(Simulation& simulation, std::span<const OverlapSlowdown> slowdowns) {
  s_ = &simulation;
  slowdowns_ = slowdowns;
  prepare();
  do {
    settle();
  } while (advance());
  for (const Rank& rank : ranks_) {
    for (int stream = 0; stream < kNumStreams; ++stream) {
      const auto queued = queues_[static_cast<std::size_t>(stream)].size();
      require<Error>(
          static_cast<std::size_t>(at(rank.streams, stream).num_done) == queued,
          "the simulated ranks wait for each other for ever: {} of {} operations done on a {} stream",
          at(rank.streams, stream).num_done, queued, name(static_cast<StreamKind>(stream)));
    }
  }
  s_->total_us = now_us_;
}

void VirtualClock::prepare() {
  now_us_ = 0;
  for (auto& queue : queues_) queue.clear();
  places_.clear();
  first_group_.clear();
  std::int32_t num_activities = s_->num_ranks * kNumStreams;
  for (std::int32_t i = 0; i < static_cast<std::int32_t>(s_->operations.size()); ++i) {
    std::vector<std::int32_t>& queue = at(queues_, stream_of(i));
    places_.push_back(static_cast<std::int32_t>(queue.size()));
    queue.push_back(i);
    first_group_.push_back(num_activities);
    if (is_met(i)) num_activities += s_->world / at(s_->operations, i).group_size;
  }
  s_->times.resize(static_cast<std::size_t>(s_->num_ranks) * s_->operations.size());
  sum_up_issue();
  ranks_.assign(static_cast<std::size_t>(s_->num_ranks), {});
  activities_.assign(static_cast<std::size_t>(num_activities), {});
  unsettled_.clear();
  changed_.clear();
  ends_.clear();
  for (std::int32_t rank = s_->num_ranks - 1; rank >= 0; --rank) mark_unsettled(rank);
}

// The host queues operations one after the other, and goes on where a host operation ends.
void VirtualClock::sum_up_issue() {
  issue_us_.resize(s_->costs.size());
  for (std::int32_t rank = 0; rank < s_->num_ranks; ++rank) {
    double sum_us = 0;
    for (std::size_t i = 0; i < s_->operations.size(); ++i) {
      const bool by_host = s_->operations[i].operation.stream == StreamKind::kHost;
      if (!by_host) sum_us += s_->costs[s_->at(rank, i)].issue_us;
      issue_us_[s_->at(rank, i)] = sum_us;
      if (by_host) sum_us = 0;
    }
  }
}

// For an operation whose host operations before it are done.
double VirtualClock::issued_us(std::int32_t rank, std::int32_t operation) {
  const std::int32_t host = at(s_->operations, operation).after[kHost];
  const double begin_us = host == kNothing ? 0 : times(rank, host).end_us;
  return begin_us + issue_us_[s_->at(rank, static_cast<std::size_t>(operation))];
}

bool VirtualClock::is_met(std::int32_t operation) const {
  return !s_->folded() && at(s_->operations, operation).group_size > 1;
}

bool VirtualClock::is_done(const Rank& rank, std::int32_t operation) const {
  return operation == kNothing || at(places_, operation) < at(rank.streams, stream_of(operation)).num_done;
}

VirtualClock::Members VirtualClock::members_of(const Activity& activity) const {
  const std::int32_t size = at(s_->operations, activity.operation).group_size;
  if (group_of(operation(activity.operation).kind) == OperationGroup::kRail) {
    return {.first = activity.rank, .stride = s_->world / size, .count = size};
  }
  return {.first = activity.rank * size, .stride = 1, .count = size};
}

// Starts all that can start now. What takes no time ends here and now and slows nothing down; rates change
// only when all that happens at this moment has happened, so that one rank that stands for many sees the same
// as they do.
void VirtualClock::settle() {
  while (!unsettled_.empty()) {
    const std::int32_t rank = unsettled_.back();
    unsettled_.pop_back();
    at(ranks_, rank).unsettled = false;
    for (int stream = 0; stream < kNumStreams; ++stream) reach(rank, stream);
  }
  for (const std::int32_t rank : changed_) {
    at(ranks_, rank).changed = false;
    set_slowdowns(rank);
  }
  changed_.clear();
}

// The next operation of a stream, if it can start.
void VirtualClock::reach(std::int32_t rank, int stream) {
  Rank& state = at(ranks_, rank);
  Stream& own = at(state.streams, stream);
  const std::vector<std::int32_t>& queue = at(queues_, stream);
  if (own.state != State::kIdle || static_cast<std::size_t>(own.num_done) == queue.size()) return;
  const std::int32_t next = at(queue, own.num_done);
  for (const std::int32_t before : at(s_->operations, next).after) {
    if (!is_done(state, before)) return;
  }
  const double issued_us = this->issued_us(rank, next);
  if (issued_us > now_us_) {
    if (std::exchange(own.awaits_issue, next) == next) return;
    ends_.push_back({.at_us = issued_us, .activity = kNothing - rank, .version = 0});
    std::ranges::push_heap(ends_, kLater);
    return;
  }
  own.state = State::kReady;
  times(rank, next).issued_us = issued_us;
  times(rank, next).ready_us = now_us_;
  if (is_met(next)) {
    meet(rank, next);
  } else {
    const std::int32_t activity = activity_of(rank, stream);
    at(activities_, activity).operation = next;
    at(activities_, activity).rank = rank;
    begin(activity, s_->costs[s_->at(rank, static_cast<std::size_t>(next))].duration_us, rank);
  }
}

void VirtualClock::meet(std::int32_t rank, std::int32_t operation) {
  const std::int32_t size = at(s_->operations, operation).group_size;
  const bool rail = group_of(this->operation(operation).kind) == OperationGroup::kRail;
  const std::int32_t group = rail ? rank % (s_->world / size) : rank / size;
  const std::int32_t index = at(first_group_, operation) + group;
  Activity& activity = at(activities_, index);
  activity.operation = operation;
  activity.rank = group;
  activity.duration_us = std::max(activity.duration_us,
                                  s_->costs[s_->at(rank, static_cast<std::size_t>(operation))].duration_us);
  if (++activity.num_ready < size) return;
  // Of several that are ready at this moment the lowest counts as the last, in whatever order they came.
  const Members members = members_of(activity);
  std::int32_t last = rank;
  for (std::int32_t i = members.count - 1; i >= 0; --i) {
    const std::int32_t member = members.first + i * members.stride;
    if (times(member, operation).ready_us == now_us_) last = member;
  }
  begin(index, activity.duration_us, last);
}

void VirtualClock::begin(std::int32_t index, double duration_us, std::int32_t last_rank) {
  Activity& activity = at(activities_, index);
  const bool group = index >= s_->num_ranks * kNumStreams;
  const Members members = group ? members_of(activity) : Members{activity.rank, 1, 1};
  const int stream = stream_of(activity.operation);
  activity.remaining_us = duration_us;
  activity.since_us = now_us_;
  activity.slowdown = 0;
  activity.num_compute = 0;
  for (std::int32_t i = 0; i < members.count; ++i) {
    const std::int32_t member = members.first + i * members.stride;
    Rank& rank = at(ranks_, member);
    OperationTimes& when = times(member, activity.operation);
    when.begin_us = now_us_;
    when.last_rank = last_rank;
    at(rank.streams, stream).state = State::kRunning;
    activity.num_compute += rank.computes ? 1 : 0;
    if (duration_us == 0) {
      finish_on(member, activity.operation);
    } else if (stream == kCommunication) {
      rank.communication = index;
      mark_changed(member);
    }
  }
  if (duration_us == 0) return;
  if (stream == kCompute) set_computes(activity.rank, true);
  if (stream == kHost) set_slowdown(index, 1);
}

void VirtualClock::finish(std::int32_t index) {
  const Activity& activity = at(activities_, index);
  const bool group = index >= s_->num_ranks * kNumStreams;
  const Members members = group ? members_of(activity) : Members{activity.rank, 1, 1};
  const int stream = stream_of(activity.operation);
  for (std::int32_t i = 0; i < members.count; ++i) {
    const std::int32_t member = members.first + i * members.stride;
    if (stream == kCommunication) {
      at(ranks_, member).communication = kNothing;
      mark_changed(member);
    }
    finish_on(member, activity.operation);
  }
  if (stream == kCompute) set_computes(activity.rank, false);
}

void VirtualClock::finish_on(std::int32_t rank, std::int32_t operation) {
  Stream& stream = at(at(ranks_, rank).streams, stream_of(operation));
  times(rank, operation).end_us = now_us_;
  stream.state = State::kIdle;
  ++stream.num_done;
  mark_unsettled(rank);
}

void VirtualClock::set_computes(std::int32_t rank, bool computes) {
  Rank& state = at(ranks_, rank);
  state.computes = computes;
  if (state.communication != kNothing) at(activities_, state.communication).num_compute += computes ? 1 : -1;
  mark_changed(rank);
}

void VirtualClock::set_slowdowns(std::int32_t rank) {
  const Rank& state = at(ranks_, rank);
  const bool communicates = state.communication != kNothing;
  double compute = 1;
  if (communicates) {
    const Activity& activity = at(activities_, state.communication);
    const OverlapSlowdown& slowdown = at(slowdowns_, activity.operation);
    compute = slowdown.compute;
    set_slowdown(state.communication, activity.num_compute > 0 ? slowdown.communication : 1);
  }
  if (state.computes) set_slowdown(activity_of(rank, kCompute), compute);
}

void VirtualClock::set_slowdown(std::int32_t index, double slowdown) {
  Activity& activity = at(activities_, index);
  if (activity.slowdown == slowdown) return;
  if (activity.slowdown > 0) {
    activity.remaining_us =
        std::max(0.0, activity.remaining_us - (now_us_ - activity.since_us) / activity.slowdown);
  }
  activity.since_us = now_us_;
  activity.slowdown = slowdown;
  push_end(index);
}

void VirtualClock::push_end(std::int32_t index) {
  Activity& activity = at(activities_, index);
  ends_.push_back({.at_us = now_us_ + activity.remaining_us * activity.slowdown,
                   .activity = index,
                   .version = ++activity.version});
  std::ranges::push_heap(ends_, kLater);
}

// To the next moment at which something ends; false if nothing is under way.
bool VirtualClock::advance() {
  bool advanced = false;
  while (!ends_.empty()) {
    const End next = ends_.front();
    const bool is_issue = next.activity < 0;
    const bool counts = is_issue || at(activities_, next.activity).version == next.version;
    if (counts && advanced && next.at_us != now_us_) break;
    std::ranges::pop_heap(ends_, kLater);
    ends_.pop_back();
    if (!counts) continue;
    now_us_ = next.at_us;
    advanced = true;
    if (is_issue) {
      mark_unsettled(kNothing - next.activity);
      continue;
    }
    ++at(activities_, next.activity).version;
    finish(next.activity);
  }
  return advanced;
}

void VirtualClock::mark_unsettled(std::int32_t rank) {
  if (std::exchange(at(ranks_, rank).unsettled, true)) return;
  unsettled_.push_back(rank);
}

void VirtualClock::mark_changed(std::int32_t rank) {
  if (std::exchange(at(ranks_, rank).changed, true)) return;
  changed_.push_back(rank);
}

}  // namespace flex
