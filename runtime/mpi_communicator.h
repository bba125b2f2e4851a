#pragma once

#ifdef FLEX_HAS_MPI

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "runtime/communicator.h"

namespace flex {

/// MPI from its beginning to its end in this process. Worlds and whatever uses them must be gone before it
/// is.
class MpiSession {
 public:
  /// Initializes MPI, or joins an MPI that the program has initialized and will finalize itself.
  /// @throws CommError unless it allows calls from several threads at once (MPI_THREAD_MULTIPLE).
  MpiSession();
  /// Finalizes MPI if this session initialized it. Where that could wait forever, because a world was aborted
  /// and a rank does not come, or because an exception is on its way, it ends the job by MPI_Abort instead.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }

 private:
  friend std::unique_ptr<Communicator> make_mpi_world(const MpiSession& session, int ranks_per_node,
                                                      std::chrono::milliseconds deadline);
  bool owns_mpi_ = false;
  int rank_ = 0;
  int size_ = 1;
  int exceptions_at_start_ = 0;
  std::shared_ptr<std::atomic<bool>> aborted_;
};

/// The world of all processes of the MPI job. Collective and blocking. Buffers lie on the CPU.
/// `ranks_per_node` 0 takes the number of ranks that share a machine. Ranks must be placed node by node
/// (mpirun's default).
///
/// A failed collective tells all ranks, which then fail too, and prints its reason on stderr. A process that
/// holds its world 5 s longer ends the job by MPI_Abort: a job never hangs. After a failure the buffers of
/// collectives that were under way should live until the process ends, because MPI may not let go of them.
/// @throws InputError for a topology or deadline that cannot be; CommError if not all ranks arrive within the
/// deadline.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_world(const MpiSession& session, int ranks_per_node,
                                                           std::chrono::milliseconds deadline);

/// The same over the caller's communicator: it is duplicated, and its ranks are the world's. The caller keeps
/// MPI, initialized with MPI_THREAD_MULTIPLE, until all communicators made from this one are gone.
[[nodiscard]] std::unique_ptr<Communicator> wrap_mpi_comm(MPI_Comm comm, int ranks_per_node,
                                                          std::chrono::milliseconds deadline);

}  // namespace flex

#endif  // FLEX_HAS_MPI
