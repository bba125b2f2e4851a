#pragma once

#include <mpi.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/collective_call.h"
#include "runtime/mpi_world.h"

namespace flex {

/// The messages of one collective of one rank, and the memory for them, which is kept for the next one.
///
/// Every collective begins with a header from each member to each other one. It tells who has arrived, and
/// what for, so that a missing peer and a wrong call can be named, and the pieces that follow fit.
class MpiExchange {
 public:
  /// MPI counts in int; longer pieces go in several messages.
  static constexpr std::int64_t kMostBytesPerMessage = std::int64_t{1} << 30;

  /// `comm` and `world_ranks` are the group's; all arguments must outlive this object.
  MpiExchange(MpiWorld& world, MPI_Comm comm, std::span<const int> world_ranks, int rank,
              std::int64_t most_bytes_per_message = kMostBytesPerMessage);
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;

  /// Posts the headers. `tag` is of no other exchange in flight in the group.
  void begin(const CollectiveCall& call, int tag);
  /// Posts pieces. Between two ranks they are matched in the order in which they are posted; none for this
  /// rank.
  void send(int peer, const void* data, std::int64_t bytes);
  void receive(int peer, void* data, std::int64_t bytes);
  /// Waits for all that was posted. @throws CommError.
  void complete_blocking();

  /// Memory for pieces on their way, valid until the next call of this function.
  [[nodiscard]] char* staging(std::int64_t bytes);
  /// After a failure: withdraws what was posted. False if MPI did not let go of everything; it may then still
  /// write into this object, which must never be freed.
  [[nodiscard]] bool withdraw() noexcept;

 private:
  struct Header {
    CollectiveKind kind = CollectiveKind::kAllToAll;
    Traffic traffic = Traffic::kOther;
    DType dtype = DType::kU8;
    ReduceOp op = ReduceOp::kSum;
    std::int32_t root = 0;
    std::int64_t bytes = 0;
    std::int64_t bytes_for_peer = 0;
  };

  /// What a request is for.
  struct Posted {
    int peer = 0;
    bool is_receive = false;
    bool is_header = false;
  };

  [[nodiscard]] MPI_Request* post(Posted posted);
  /// Tests all requests once; true while some are pending.
  [[nodiscard]] bool progress();
  void finish_requests(int count, bool some_failed);
  void check_header(int peer);
  [[noreturn]] void fail(const std::string& reason);
  [[noreturn]] void give_up();
  void restart_clock();
  [[nodiscard]] PeerWait describe() const;
  [[nodiscard]] int world_rank(int peer) const { return world_ranks_[static_cast<std::size_t>(peer)]; }

  MpiWorld& world_;
  MPI_Comm comm_;
  std::span<const int> world_ranks_;
  int rank_;
  std::int64_t most_bytes_per_message_;

  CollectiveCall call_;
  int tag_ = 0;
  std::vector<Header> headers_out_;  // by peer, as are the next two
  std::vector<Header> headers_in_;
  std::vector<char> arrived_;
  int num_missing_ = 0;
  std::vector<MPI_Request> requests_;
  std::vector<Posted> posted_;  ///< by request
  std::vector<int> finished_;   ///< MPI_Testsome's indices and statuses
  std::vector<MPI_Status> statuses_;
  std::vector<char> staging_;
  std::size_t seen_questions_ = 0;
  std::chrono::steady_clock::time_point give_up_at_;
};

}  // namespace flex
