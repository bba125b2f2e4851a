#include "runtime/control_hub.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "runtime/tcp_socket.h"

namespace flex {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{20};
/// How long the ranks of a failed world have to learn the reason and leave, when rank 0 has left.
constexpr milliseconds kFarewell{1000};
/// The same for ranks that have not even come when a job fails at its start.
constexpr milliseconds kLateRanks{3000};

milliseconds since(SteadyTime then, SteadyTime now) {
  return std::chrono::duration_cast<milliseconds>(now - then);
}

}  // namespace

ControlHub::ControlHub(FileDescriptor listener, Options options)
    : listener_(std::move(listener)),
      options_(std::move(options)),
      meetings_(options_.world),
      began_(std::chrono::steady_clock::now()),
      last_tick_(began_),
      last_beat_(began_),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

ControlHub::~ControlHub() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void ControlHub::run(const std::stop_token& stop) {
  for (;;) {
    poll_sockets();
    const SteadyTime now = std::chrono::steady_clock::now();
    accept_all(now);
    for (ControlConnection& connection : connections_) receive_from(connection, now);
    watch(now);
    flush_all();
    if (may_end(now, stop)) return;
  }
}

void ControlHub::poll_sockets() {
  std::vector<pollfd> sockets = {{.fd = listener_.get(), .events = POLLIN, .revents = 0}};
  for (const ControlConnection& connection : connections_) {
    const bool writes = !connection.flushed();
    sockets.push_back({.fd = connection.descriptor(),
                       .events = static_cast<short>(writes ? POLLIN | POLLOUT : POLLIN),
                       .revents = 0});
  }
  poll(sockets.data(), sockets.size(), static_cast<int>(kTick.count()));
}

void ControlHub::accept_all(SteadyTime now) {
  for (;;) {
    FileDescriptor socket = accept_from(listener_);
    if (!socket.is_open()) return;
    connections_.emplace_back(std::move(socket), now);
  }
}

void ControlHub::receive_from(ControlConnection& connection, SteadyTime now) {
  if (connection.closing) return;
  try {
    const bool open = connection.receive(now);
    while (!connection.closing) {
      const std::optional<Frame> frame = connection.frames().next();
      if (!frame) break;
      handle(connection, *frame, now);
    }
    if (open || connection.closing) return;
    if (connection.rank >= 0) lose(connection, false, now);
  } catch (const CommError& error) {
    if (connection.rank >= 0) {
      fail_world(fmt::format("rank {} broke its control channel: {}", connection.rank, error.what()));
    } else {
      log_warning("{}: dropped a connection from {} that is no rank of a Flex job: {}", options_.where,
                  connection.peer(), error.what());
    }
  }
  connection.closing = true;
}

void ControlHub::handle(ControlConnection& connection, const Frame& frame, SteadyTime now) {
  if (connection.rank < 0) {
    require<CommError>(frame.kind == FrameKind::kHello, "it did not say who it is");
    return join(connection, decode_hello(frame.payload));
  }
  switch (frame.kind) {
    case FrameKind::kGroup:
      return meetings_.declare(connection.rank, decode_group(frame.payload));
    case FrameKind::kArrival:
      return arrive(connection, decode_arrival(frame.payload), now);
    case FrameKind::kStuck:
      stalls_.push_back({connection.rank, decode_call_id(frame.payload)});
      return inquire(now);
    case FrameKind::kReport:
      reports_[connection.rank] = decode_report(frame.payload);
      return;
    case FrameKind::kAbort:
      return fail_world(frame.payload);
    case FrameKind::kBeat:
      connection.does = frame.payload;
      return;
    case FrameKind::kLeave:
      connection.left = true;
      connection.closing = true;
      gone_.insert(connection.rank);
      if (phase_ == Phase::kJoining) {
        fail_world(fmt::format("join: rank {} left before all had joined", connection.rank));
      }
      return;
    default:
      fail<CommError>("a message of kind {} goes the other way", static_cast<std::uint32_t>(frame.kind));
  }
}

std::string ControlHub::why_refused(const HelloMessage& hello) const {
  const auto named = [](const std::string& job) {
    return job.empty() ? "a job without a name" : "job " + job;
  };
  if (hello.job != options_.job) {
    return fmt::format(
        "{} belongs to {}, this process (rank {}) to {}: two programs use one port; give each its own, e.g. "
        "FLEX_CONTROL=<host of rank 0>:<port>",
        options_.where, named(options_.job), hello.rank, named(hello.job));
  }
  if (phase_ == Phase::kFailed) return reason_;
  if (phase_ == Phase::kRunning) {
    return fmt::format(
        "{}: all {} ranks of {} have joined, and rank {} came once more: two programs use one port; give "
        "each "
        "its own, e.g. FLEX_CONTROL=<host of rank 0>:<port>",
        options_.where, options_.world, named(options_.job), hello.rank);
  }
  return {};
}

void ControlHub::join(ControlConnection& connection, const HelloMessage& hello) {
  if (hello.job == options_.job) heard_.insert(hello.rank);
  const std::string refused = why_refused(hello);
  if (!refused.empty()) {
    connection.send(FrameKind::kRefused, refused);
    connection.closing = true;
    return;
  }
  const bool again = settings_.contains(hello.rank);
  connection.rank = hello.rank;
  connection.frames().limit(kMostFrameBytes);
  connection.send(FrameKind::kBeat, {});
  if (hello.world != options_.world || hello.rank >= options_.world) {
    return fail_world(
        fmt::format("join: rank {} was started as one of {} ranks, rank 0 as one of {}; start all with one "
                    "number of ranks",
                    hello.rank, hello.world, options_.world));
  }
  if (again) {
    return fail_world(
        fmt::format("join: rank {} joined twice at {}: two programs use one port, or two processes have one "
                    "rank; give each "
                    "program its own, e.g. FLEX_CONTROL=<host of rank 0>:<port>",
                    hello.rank, options_.where));
  }
  settings_[hello.rank] = hello.settings;
  if (std::ssize(settings_) < options_.world) return;
  const std::string difference = settings_difference(settings_);
  if (!difference.empty()) {
    return fail_world(fmt::format("join: the ranks do not fit together: {}", difference));
  }
  phase_ = Phase::kRunning;
  for (ControlConnection& each : connections_) {
    if (each.rank >= 0) each.send(FrameKind::kWelcome, {});
  }
}

void ControlHub::arrive(const ControlConnection& connection, ArrivalMessage&& arrival, SteadyTime now) {
  if (phase_ != Phase::kRunning) return;
  ControlMeetings::Outcome outcome = meetings_.arrive(connection.rank, std::move(arrival), now);
  if (!outcome.failure.empty()) return fail_world(outcome.failure);
  for (std::size_t i = 0; i < outcome.members.size(); ++i) {
    ControlConnection* const member = find(outcome.members[i]);
    if (member != nullptr) member->send(FrameKind::kComplete, encode(outcome.deliveries[i]));
  }
}

ControlConnection* ControlHub::find(int rank) {
  const auto found = std::ranges::find_if(connections_, [&](const ControlConnection& each) {
    return each.rank == rank && !each.closing && !each.lost;
  });
  return found == connections_.end() ? nullptr : &*found;
}

void ControlHub::fail_world(const std::string& reason) {
  if (phase_ == Phase::kFailed) return;
  phase_ = Phase::kFailed;
  reason_ = reason;
  for (ControlConnection& connection : connections_) {
    if (connection.rank >= 0 && !connection.left) connection.send(FrameKind::kAbort, reason);
  }
}

void ControlHub::flush_all() {
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    const bool open = connection->flush();
    if (!open || (connection->closing && connection->flushed())) {
      if (!open && connection->rank >= 0 && !connection->closing) {
        lose(*connection, false, std::chrono::steady_clock::now());
      }
      connection = connections_.erase(connection);
    } else {
      ++connection;
    }
  }
}

bool ControlHub::may_end(SteadyTime now, const std::stop_token& stop) {
  if (!stop.stop_requested()) return false;
  if (!ending_) ending_ = now;
  if (phase_ == Phase::kJoining) {
    fail_world("join: rank 0 left before all had joined");
    return false;
  }
  // Who comes late to a job that could not begin is still told why.
  const bool all_told = phase_ == Phase::kRunning || std::ssize(heard_) >= options_.world;
  if (!all_told && since(began_, now) < options_.deadline) return since(*ending_, now) > kLateRanks;
  if (connections_.empty()) return true;
  if (phase_ != Phase::kFailed) return std::ssize(gone_) == options_.world;
  // Closing while a rank's words lie unread would reset its connection, and take the reason with it.
  return since(*ending_, now) > kFarewell;
}

}  // namespace flex
