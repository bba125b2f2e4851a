#include "runtime/mpi_exchange.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <thread>

#include "runtime/mpi_check.h"

namespace flex {
namespace {

/// Lets others run between two looks at the requests: ranks often outnumber cores.
class Backoff {
 public:
  void pause() {
    constexpr int kYields = 50;
    constexpr std::chrono::microseconds kSleep{30};
    if (++num_pauses_ <= kYields) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kSleep);
    }
  }

 private:
  int num_pauses_ = 0;
};

}  // namespace

MpiExchange::MpiExchange(MpiWorld& world, MPI_Comm comm, std::span<const int> world_ranks, int rank,
                         std::int64_t most_bytes_per_message)
    : world_(world),
      comm_(comm),
      world_ranks_(world_ranks),
      rank_(rank),
      most_bytes_per_message_(most_bytes_per_message),
      headers_out_(world_ranks.size()),
      headers_in_(world_ranks.size()),
      arrived_(world_ranks.size()) {}

MPI_Request* MpiExchange::post(Posted posted) {
  posted_.push_back(posted);
  return &requests_.emplace_back(MPI_REQUEST_NULL);
}

void MpiExchange::begin(const CollectiveCall& call, int tag) {
  call_ = call;
  tag_ = tag;
  requests_.clear();
  posted_.clear();
  const int size = static_cast<int>(world_ranks_.size());
  std::ranges::fill(arrived_, false);
  num_missing_ = size - 1;
  seen_questions_ = world_.num_questions();
  world_.poll();
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank_) continue;
    check_mpi(MPI_Irecv(&headers_in_[static_cast<std::size_t>(peer)], sizeof(Header), MPI_BYTE, peer, tag_,
                        comm_, post({.peer = peer, .is_receive = true, .is_header = true})),
              "MPI_Irecv");
  }
  for (int i = 1; i < size; ++i) {
    const int peer = (rank_ + i) % size;
    Header& header = headers_out_[static_cast<std::size_t>(peer)];
    header = {.kind = call.kind,
              .traffic = call.traffic,
              .dtype = call.dtype,
              .op = call.op,
              .root = call.root,
              .bytes = call.bytes,
              .bytes_for_peer = call.bytes_to(peer)};
    check_mpi(MPI_Isend(&header, sizeof(Header), MPI_BYTE, peer, tag_, comm_, post({.peer = peer})),
              "MPI_Isend");
  }
}

void MpiExchange::send(int peer, const void* data, std::int64_t bytes) {
  for (std::int64_t begin = 0; begin < bytes; begin += most_bytes_per_message_) {
    const int part = static_cast<int>(std::min(most_bytes_per_message_, bytes - begin));
    check_mpi(MPI_Isend(static_cast<const char*>(data) + begin, part, MPI_BYTE, peer, tag_, comm_,
                        post({.peer = peer})),
              "MPI_Isend");
  }
}

void MpiExchange::receive(int peer, void* data, std::int64_t bytes) {
  for (std::int64_t begin = 0; begin < bytes; begin += most_bytes_per_message_) {
    const int part = static_cast<int>(std::min(most_bytes_per_message_, bytes - begin));
    check_mpi(MPI_Irecv(static_cast<char*>(data) + begin, part, MPI_BYTE, peer, tag_, comm_,
                        post({.peer = peer, .is_receive = true})),
              "MPI_Irecv");
  }
}

void MpiExchange::complete_blocking() {
  finished_.resize(std::max(finished_.size(), requests_.size()));
  statuses_.resize(std::max(statuses_.size(), requests_.size()));
  restart_clock();
  Backoff backoff;
  while (progress()) {
    world_.poll();
    if (world_.num_questions() != seen_questions_) world_.answer(describe(), &seen_questions_);
    if (std::chrono::steady_clock::now() >= give_up_at_) give_up();
    backoff.pause();
  }
  requests_.clear();
  posted_.clear();
}

bool MpiExchange::progress() {
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                finished_.data(), statuses_.data());
  if (code != MPI_ERR_IN_STATUS) check_mpi(code, "MPI_Testsome");
  if (count == MPI_UNDEFINED) return false;
  if (count > 0) finish_requests(count, code == MPI_ERR_IN_STATUS);
  return true;
}

void MpiExchange::finish_requests(int count, bool some_failed) {
  const auto finished = std::span(finished_).first(static_cast<std::size_t>(count));
  for (const int index : finished) {
    const Posted& posted = posted_[static_cast<std::size_t>(index)];
    if (posted.is_header) check_header(posted.peer);
  }
  // Headers come first: a piece of the wrong size is the consequence of a call that does not fit.
  for (std::size_t i = 0; some_failed && i < finished.size(); ++i) {
    const int code = statuses_[i].MPI_ERROR;
    if (code == MPI_SUCCESS || code == MPI_ERR_PENDING) continue;
    const int peer = posted_[static_cast<std::size_t>(finished[i])].peer;
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(code, text.data(), &length);
    fail(fmt::format("{}: exchange of ranks {} and {} failed: {}", describe().place, world_rank(rank_),
                     world_rank(peer), text.data()));
  }
  if (num_missing_ == 0) restart_clock();
}

void MpiExchange::check_header(int peer) {
  arrived_[static_cast<std::size_t>(peer)] = true;
  --num_missing_;
  const Header& header = headers_in_[static_cast<std::size_t>(peer)];
  CollectiveCall theirs;
  theirs.kind = header.kind;
  theirs.traffic = header.traffic;
  theirs.dtype = header.dtype;
  theirs.op = header.op;
  theirs.root = header.root;
  theirs.bytes = header.bytes;
  if (!agree(call_, theirs)) {
    std::array<CollectiveCall, 2> calls = {call_, theirs};
    std::array<int, 2> ranks = {world_rank(rank_), world_rank(peer)};
    if (peer < rank_) {
      std::swap(calls[0], calls[1]);
      std::swap(ranks[0], ranks[1]);
    }
    fail(disagreement_text(calls, ranks, world_ranks_));
  }
  if (header.bytes_for_peer != call_.bytes_from(peer)) {
    fail(ragged_disagreement_text(place_text(call_.kind, call_.traffic, world_ranks_), world_rank(peer),
                                  header.bytes_for_peer, world_rank(rank_), call_.bytes_from(peer)));
  }
}

void MpiExchange::restart_clock() {
  // The cap keeps a deadline of "forever" from overflowing the clock.
  give_up_at_ = std::chrono::steady_clock::now() +
                std::min<std::chrono::milliseconds>(world_.deadline(), std::chrono::hours(24 * 365));
}

void MpiExchange::fail(const std::string& reason) {
  world_.abort(reason);
  world_.require_alive();  // throws the first reason, which may be another one
  throw CommError(reason);
}

void MpiExchange::give_up() {
  const PeerWait own = describe();
  const std::vector<PeerWait> waits = world_.ask_blocking(own, &seen_questions_);
  fail(explain_wait(waits, 0, world_.deadline()));
}

PeerWait MpiExchange::describe() const {
  PeerWait wait{.rank = world_rank(rank_),
                .place = place_text(call_.kind, call_.traffic, world_ranks_),
                .missing = {},
                .not_called = {}};
  for (std::size_t peer = 0; peer < arrived_.size(); ++peer) {
    const bool is_own = static_cast<int>(peer) == rank_;
    if (!is_own && !arrived_[peer]) wait.missing.push_back(world_ranks_[peer]);
  }
  if (num_missing_ > 0) return wait;
  // All are there; this rank waits for data.
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const int peer = world_rank(posted_[i].peer);
    if (requests_[i] != MPI_REQUEST_NULL && std::ranges::find(wait.missing, peer) == wait.missing.end()) {
      wait.missing.push_back(peer);
    }
  }
  return wait;
}

bool MpiExchange::withdraw() noexcept {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL && posted_[i].is_receive) MPI_Cancel(&requests_[i]);
  }
  const auto until = std::chrono::steady_clock::now() + MpiWorld::kAnswerTime;
  int done = 0;
  while (done == 0 && std::chrono::steady_clock::now() < until) {
    MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
    if (done == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return done != 0;
}

char* MpiExchange::staging(std::int64_t bytes) {
  if (static_cast<std::int64_t>(staging_.size()) < bytes) staging_.resize(static_cast<std::size_t>(bytes));
  return staging_.data();
}

}  // namespace flex
