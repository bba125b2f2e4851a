#include "runtime/control_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "runtime/tcp_socket.h"

namespace flex {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// Beyond it a deadline counts as forever; it keeps clocks from overflowing.
constexpr milliseconds kMostDeadline = std::chrono::hours(24 * 365);
constexpr milliseconds kRetry{50};
constexpr milliseconds kTick{20};
/// The hub tells of a missing rank itself; this long after the deadline nobody waits for its word.
constexpr milliseconds kHubSlack{1000};
/// How long a rank that leaves waits for the hub to have read that.
constexpr milliseconds kLeaveTime{1000};

/// @return false if nothing came within the limit.
bool await(const FileDescriptor& socket, short events, milliseconds limit) {
  pollfd wait{.fd = socket.get(), .events = events, .revents = 0};
  return poll(&wait, 1, static_cast<int>(std::clamp<std::int64_t>(limit.count(), 0, 1'000'000))) > 0;
}

milliseconds until_then(SteadyTime then) {
  return std::chrono::duration_cast<milliseconds>(then - Clock::now());
}

}  // namespace

std::string ControlChannel::where() const { return address_text(options_.host, options_.port); }

ControlChannel::ControlChannel(JoinOptions options, FileDescriptor listener) : options_(std::move(options)) {
  require(options_.deadline.count() > 0, "a deadline of {} ms; it is at least 1 ms",
          options_.deadline.count());
  require(options_.world >= 1 && options_.rank >= 0 && options_.rank < options_.world,
          "rank {} of a world of {}", options_.rank, options_.world);
  options_.deadline = std::min(options_.deadline, kMostDeadline);
  if (options_.rank == 0) {
    if (!listener.is_open()) {
      listener = listen_at(options_.bind.empty() ? options_.host : options_.bind, options_.port);
    }
    options_.port = listening_port(listener);
    hub_ = std::make_unique<ControlHub>(
        std::move(listener),
        ControlHub::Options{
            .world = options_.world, .job = options_.job, .where = where(), .deadline = options_.deadline});
  }
  connect_blocking();
  last_heard_ = last_beat_ = last_tick_ = Clock::now();
  service_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  std::unique_lock lock(mutex_);
  const bool told =
      changed_.wait_for(lock, options_.deadline + kHubSlack, [&] { return welcome_ || aborted(); });
  if (welcome_) return;  // a failure after that is the first call's
  const std::string reason =
      told ? reason_
           : fmt::format("join: {} did not say within {} ms whether all ranks have joined", where(),
                         options_.deadline.count());
  lock.unlock();
  service_ = {};
  throw CommError(reason);
}

ControlChannel::~ControlChannel() {
  service_ = {};  // stops and joins
  try {
    send(FrameKind::kLeave, {});
  } catch (const CommError& error) {
    log_debug("rank {} leaves without a word: {}", options_.rank, error.what());
  }
  // Closing with unread data in the socket would reset the connection, and could take the farewell with it.
  shutdown(socket_.get(), SHUT_WR);
  const SteadyTime until = Clock::now() + kLeaveTime;
  std::string rest;
  while (Clock::now() < until && (!await(socket_, POLLIN, kTick) || read_some(socket_, &rest))) rest.clear();
  socket_ = FileDescriptor();
}

void ControlChannel::connect_blocking() {
  const SteadyTime until = Clock::now() + options_.deadline;
  // Rank 0 reaches its own hub by the interface on which it listens.
  const bool everywhere = hub_ != nullptr && !options_.bind.empty();
  const std::string host = everywhere ? "127.0.0.1" : options_.host;
  for (;;) {
    socket_ = try_connect(host, options_.port, std::clamp(until_then(until), kRetry, milliseconds(1000)));
    if (socket_.is_open() && shake_hands_blocking(until)) return;
    require<CommError>(
        Clock::now() < until,
        "join: rank 0 did not listen at {} within {} ms; is it running, and is this address its own?",
        where(), options_.deadline.count());
    std::this_thread::sleep_for(kRetry);
  }
}

bool ControlChannel::shake_hands_blocking(SteadyTime until) {
  frames_ = FrameReader();
  const std::string hello = encode(HelloMessage{
      .job = options_.job, .rank = options_.rank, .world = options_.world, .settings = options_.settings});
  send(FrameKind::kHello, hello);
  const SteadyTime patience = std::min(until, Clock::now() + silence_limit(options_.deadline));
  for (;;) {
    std::optional<Frame> frame;
    try {
      frame = frames_.next();
    } catch (const CommError& error) {
      fail<CommError>("join: what listens at {} is not rank 0 of a Flex job: {}", where(), error.what());
    }
    if (frame && (frame->kind == FrameKind::kRefused || frame->kind == FrameKind::kAbort)) {
      throw CommError(frame->payload);
    }
    if (frame) return true;
    require<CommError>(await(socket_, POLLIN, until_then(patience)),
                       "join: what listens at {} does not answer; is it rank 0 of this job?", where());
    std::string bytes;
    if (!read_some(socket_, &bytes)) return false;
    frames_.append(bytes);
  }
}

void ControlChannel::serve(const std::stop_token& stop) {
  drain();  // what came with the first answer
  while (!stop.stop_requested()) {
    if (await(socket_, POLLIN, kTick)) receive();
    if (aborted()) {
      // Nothing more is expected; the connection stays until the rank leaves.
      std::this_thread::sleep_for(kTick);
      continue;
    }
    beat(Clock::now());
  }
}

void ControlChannel::receive() {
  std::string bytes;
  const bool open = read_some(socket_, &bytes);
  if (!bytes.empty()) last_heard_ = Clock::now();
  frames_.append(bytes);
  drain();
  if (open || aborted()) return;
  const std::string does = record_.current();
  fail_here(
      fmt::format("rank 0 is gone{}{}: its process ended", does.empty() ? "" : " during or after ", does));
}

void ControlChannel::drain() {
  try {
    while (const std::optional<Frame> frame = frames_.next()) handle(*frame);
  } catch (const CommError& error) {
    fail_here(fmt::format("rank 0 broke the control channel: {}", error.what()));
  }
}

void ControlChannel::handle(const Frame& frame) {
  switch (frame.kind) {
    case FrameKind::kWelcome: {
      const std::lock_guard lock(mutex_);
      welcome_ = true;
      changed_.notify_all();
      return;
    }
    case FrameKind::kComplete: {
      CompleteMessage message = decode_complete(frame.payload);
      const std::lock_guard lock(mutex_);
      const auto pending = pending_.find({message.group, message.number});
      require<CommError>(pending != pending_.end(), "data for a call that was not made");
      pending->second = {true, std::move(message.pieces)};
      changed_.notify_all();
      return;
    }
    case FrameKind::kInquiry:
      return send(FrameKind::kReport, encode(record_.report()));
    case FrameKind::kAbort:
      return fail_here(frame.payload);
    case FrameKind::kBeat:
      return;
    default:
      fail<CommError>("a message of kind {} goes the other way", static_cast<std::uint32_t>(frame.kind));
  }
}

void ControlChannel::beat(SteadyTime now) {
  // A process that was stopped itself has heard nobody, and blames nobody for it.
  if (now - last_tick_ > beat_interval(options_.deadline)) last_heard_ = now;
  last_tick_ = now;
  const auto silence = std::chrono::duration_cast<milliseconds>(now - last_heard_);
  if (silence > silence_limit(options_.deadline)) {
    const std::string does = record_.current();
    return fail_here(
        fmt::format("rank 0 does not answer{}{}: nothing came from its process for {} ms; is it stopped?",
                    does.empty() ? "" : " during or after ", does, silence.count()));
  }
  if (now - last_beat_ < beat_interval(options_.deadline)) return;
  last_beat_ = now;
  const std::string bytes = frame_bytes(FrameKind::kBeat, record_.current());
  // Who sends just now shows that this rank lives.
  if (const std::unique_lock lock(send_mutex_, std::try_to_lock); lock.owns_lock()) send_locked(bytes);
}

void ControlChannel::send(FrameKind kind, std::string_view payload) {
  const std::string bytes = frame_bytes(kind, payload);
  const std::lock_guard lock(send_mutex_);
  send_locked(bytes);
}

void ControlChannel::send_locked(std::string_view bytes) {
  // The hub always reads; who does not within this time is stopped.
  const SteadyTime until = Clock::now() + silence_limit(options_.deadline);
  while (!bytes.empty() && !send_broken_) {
    const std::int64_t count = write_some(socket_, bytes);
    if (count > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
    } else if (count < 0 || Clock::now() > until) {
      send_broken_ = true;  // half a message is gone: nothing can follow it
    } else {
      static_cast<void>(await(socket_, POLLOUT, kTick));
    }
  }
}

void ControlChannel::declare(const GroupOfRanks& group) {
  send(FrameKind::kGroup, encode(GroupMessage{.group = group.id, .members = group.world_ranks}));
}

std::vector<std::string> ControlChannel::exchange_blocking(const ArrivalMessage& arrival) {
  require_alive();
  const CallId id{arrival.group, arrival.number};
  {
    const std::lock_guard lock(mutex_);
    pending_[id] = {};
  }
  send(FrameKind::kArrival, encode(arrival));
  std::unique_lock lock(mutex_);
  Pending& pending = pending_[id];
  changed_.wait(lock, [&] { return pending.done || aborted(); });
  if (!pending.done) throw CommError(reason_);
  std::vector<std::string> pieces = std::move(pending.pieces);
  pending_.erase(id);
  return pieces;
}

void ControlChannel::report_stall(const CallId& id) noexcept {
  try {
    if (!aborted()) send(FrameKind::kStuck, encode(id));
  } catch (const std::exception& error) {
    fail_here(error.what());
  }
}

void ControlChannel::abort(const std::string& reason) noexcept {
  if (aborted()) return;
  fail_here(reason);
  try {
    send(FrameKind::kAbort, reason);
  } catch (const std::exception& error) {
    // The others see themselves that the hub, and with it rank 0, is gone.
    log_debug("rank {} could not tell of its abort: {}", options_.rank, error.what());
  }
}

void ControlChannel::fail_here(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (aborted()) return;
  reason_ = reason;
  aborted_.store(true, std::memory_order_release);
  changed_.notify_all();
}

std::string ControlChannel::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

void ControlChannel::require_alive() const {
  if (aborted()) throw CommError(reason());
}

}  // namespace flex
