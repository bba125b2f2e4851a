#include "runtime/mpi_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"
#include "runtime/mpi_check.h"

namespace flex {
namespace {

constexpr int kControlTag = 0;

int rank_in(MPI_Comm comm) {
  int rank = 0;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  return rank;
}

/// Copies what fits; the rest of the array stays zero and ends the text.
template <std::size_t N>
void put_text(std::array<char, N>& to, const std::string& text) {
  to.fill('\0');
  std::copy_n(text.begin(), std::min(text.size(), N - 1), to.begin());
}

bool finalized() {
  int done = 0;
  return MPI_Finalized(&done) != MPI_SUCCESS || done != 0;
}

}  // namespace

MpiWorld::MpiWorld(MPI_Comm control, Topology topology, std::chrono::milliseconds deadline,
                   std::shared_ptr<std::atomic<bool>> aborted_flag)
    : control_(control),
      topology_(topology),
      deadline_(deadline),
      rank_(rank_in(control)),
      counters_(topology, rank_),
      aborted_flag_(std::move(aborted_flag)),
      outgoing_(std::make_unique<std::list<Outgoing>>()) {
  check_mpi(MPI_Comm_set_errhandler(control_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Irecv(&incoming_, sizeof(Message), MPI_BYTE, MPI_ANY_SOURCE, kControlTag, control_,
                      &incoming_request_),
            "MPI_Irecv");
}

MpiWorld::~MpiWorld() {
  watchdog_.request_stop();
  if (watchdog_.joinable()) watchdog_.join();
  if (finalized()) {
    log_error("rank {}: the MPI communicator outlived MPI; destroy it before MPI_Finalize", rank_);
    return;
  }
  finish_channel();
}

void MpiWorld::finish_channel() noexcept {
  MPI_Cancel(&incoming_request_);
  MPI_Wait(&incoming_request_, MPI_STATUS_IGNORE);
  // Only an abort leaves messages behind, and eager ones at that: they are gone at once unless a peer is
  // stuck.
  const auto until = std::chrono::steady_clock::now() + kAnswerTime;
  while (!outgoing_->empty()) {
    int sent = 0;
    MPI_Test(&outgoing_->front().request, &sent, MPI_STATUS_IGNORE);
    if (sent != 0) {
      outgoing_->pop_front();
    } else if (std::chrono::steady_clock::now() > until) {
      break;
    }
  }
  // MPI still reads what could not be sent: that memory must never be freed.
  if (!outgoing_->empty()) static_cast<void>(outgoing_.release());
  // Messages may be under way to ranks that no longer receive. MPI would hand them to a later communicator
  // that got the same number, so that after an abort this one is never given back.
  if (!aborted()) MPI_Comm_free(&control_);
}

void MpiWorld::require_alive() {
  if (!aborted()) [[likely]] {
    return;
  }
  const std::lock_guard lock(mutex_);
  throw CommError(reason_);
}

void MpiWorld::abort(const std::string& reason) noexcept {
  const std::lock_guard lock(mutex_);
  if (aborted()) return;
  set_aborted_locked(reason);
  fmt::print(stderr, "flexmoe: rank {} aborts the job: {}\n", rank_, reason);
  if (finalized()) return;
  Message message{.kind = MessageKind::kAbort, .from = rank_};
  put_text(message.text, reason);
  for (int peer = 0; peer < topology_.world; ++peer) {
    if (peer != rank_) send_locked(peer, message);
  }
}

void MpiWorld::set_aborted_locked(const std::string& reason) {
  reason_ = reason;
  aborted_.store(true, std::memory_order_release);
  if (aborted_flag_ != nullptr) aborted_flag_->store(true, std::memory_order_release);
  watchdog_ = std::jthread([this](const std::stop_token& stop) { watch_for_end(stop); });
}

void MpiWorld::watch_for_end(const std::stop_token& stop) {
  std::unique_lock lock(watch_mutex_);
  watch_.wait_for(lock, stop, kAbortGrace, [] { return false; });
  if (stop.stop_requested()) return;
  fmt::print(stderr, "flexmoe: rank {} still runs {} s after the job was aborted; ending the job\n", rank_,
             std::chrono::duration_cast<std::chrono::seconds>(kAbortGrace).count());
  MPI_Abort(control_, 1);
}

void MpiWorld::send_locked(int to, const Message& message) {
  Outgoing& out = outgoing_->emplace_back(Outgoing{.message = message});
  MPI_Isend(&out.message, sizeof(Message), MPI_BYTE, to, kControlTag, control_, &out.request);
}

void MpiWorld::poll() {
  // One reader is enough; who finds the channel taken goes on.
  if (const std::unique_lock lock(mutex_, std::try_to_lock); lock.owns_lock()) receive_locked();
  require_alive();
}

void MpiWorld::receive_locked() {
  for (;;) {
    int arrived = 0;
    check_mpi(MPI_Test(&incoming_request_, &arrived, MPI_STATUS_IGNORE), "MPI_Test");
    if (arrived == 0) return;
    const Message message = incoming_;
    check_mpi(MPI_Irecv(&incoming_, sizeof(Message), MPI_BYTE, MPI_ANY_SOURCE, kControlTag, control_,
                        &incoming_request_),
              "MPI_Irecv");
    handle_locked(message);
  }
}

void MpiWorld::handle_locked(const Message& message) {
  switch (message.kind) {
    case MessageKind::kAbort:
      if (!aborted()) set_aborted_locked(message.text.data());
      return;
    case MessageKind::kQuestion:
      record_question_locked({.from = message.from, .number = message.question});
      return;
    case MessageKind::kAnswer:
      answers_.push_back(
          {.question = message.question,
           .wait = {.rank = message.from,
                    .place = message.text.data(),
                    .missing = {message.missing.begin(), message.missing.begin() + message.num_missing},
                    .not_called = {}}});
      return;
  }
}

void MpiWorld::record_question_locked(Question question) {
  questions_.push_back(question);
  num_questions_.store(questions_.size(), std::memory_order_release);
}

void MpiWorld::answer(const PeerWait& wait, std::size_t* seen) {
  const std::lock_guard lock(mutex_);
  for (; *seen < questions_.size(); ++*seen) {
    const Question& question = questions_[*seen];
    if (question.from == rank_) {
      answers_.push_back({.question = question.number, .wait = wait});
      continue;
    }
    Message message{.kind = MessageKind::kAnswer, .from = rank_, .question = question.number};
    const std::size_t count = std::min(wait.missing.size(), kMostMissing);
    message.num_missing = static_cast<std::int32_t>(count);
    std::copy_n(wait.missing.begin(), count, message.missing.begin());
    put_text(message.text, wait.place);
    send_locked(question.from, message);
  }
}

std::vector<PeerWait> MpiWorld::ask_blocking(const PeerWait& own, std::size_t* seen) {
  std::int64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++last_question_;
    const Message message{.kind = MessageKind::kQuestion, .from = rank_, .question = number};
    for (int peer = 0; peer < topology_.world; ++peer) {
      if (peer != rank_) send_locked(peer, message);
    }
    record_question_locked({.from = rank_, .number = number});
  }
  const auto until = std::chrono::steady_clock::now() + kAnswerTime;
  while (std::chrono::steady_clock::now() < until) {
    poll();
    answer(own, seen);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // This thread has answered itself, too: its own answer is the one that comes first.
  std::vector<PeerWait> waits = {own};
  const std::lock_guard lock(mutex_);
  for (const Answer& each : answers_) {
    const bool is_own = each.wait.rank == rank_ && each.wait.place == own.place;
    if (each.question == number && !is_own) waits.push_back(each.wait);
  }
  return waits;
}

}  // namespace flex
