#include "runtime/mpi_communicator.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "base/require.h"
#include "runtime/collective_engine.h"
#include "runtime/mpi_check.h"
#include "runtime/mpi_member.h"
#include "runtime/mpi_world.h"

namespace flex {
namespace {

/// True once all ranks of `comm` are here; false if they are not within `limit`.
bool await_everyone_blocking(MPI_Comm comm, std::chrono::milliseconds limit) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
  const auto begin = std::chrono::steady_clock::now();
  for (;;) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done != 0) return true;
    if (std::chrono::steady_clock::now() - begin > limit) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void require_threads() {
  int provided = 0;
  check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
  require<CommError>(
      provided >= MPI_THREAD_MULTIPLE,
      "MPI runs with thread level {}, Flex needs MPI_THREAD_MULTIPLE ({}): its streams are threads. Ask "
      "MPI_Init_thread for it, or use an MPI that has it",
      provided, MPI_THREAD_MULTIPLE);
}

int ranks_sharing_memory(MPI_Comm comm) {
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine),
            "MPI_Comm_split_type");
  int size = 0;
  check_mpi(MPI_Comm_size(machine, &size), "MPI_Comm_size");
  check_mpi(MPI_Comm_free(&machine), "MPI_Comm_free");
  std::array<int, 2> extremes = {size, -size};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, extremes.data(), 2, MPI_INT, MPI_MAX, comm), "MPI_Allreduce");
  require(extremes[0] == -extremes[1],
          "machines run between {} and {} ranks; give the ranks per node, or start as many on each",
          -extremes[1], extremes[0]);
  return size;
}

std::unique_ptr<Communicator> make_world(MPI_Comm comm, int ranks_per_node,
                                         std::chrono::milliseconds deadline,
                                         std::shared_ptr<std::atomic<bool>> aborted) {
  require(deadline.count() > 0, "a deadline of {} ms; it is at least 1 ms", deadline.count());
  require(ranks_per_node >= 0, "{} ranks per node; it is at least 1, or 0 for the ranks of a machine",
          ranks_per_node);
  require_threads();
  Topology topology;
  check_mpi(MPI_Comm_size(comm, &topology.world), "MPI_Comm_size");
  require<CommError>(await_everyone_blocking(comm, deadline), "not all {} MPI ranks arrived within {} ms",
                     topology.world, deadline.count());
  topology.ranks_per_node = ranks_per_node > 0 ? ranks_per_node : ranks_sharing_memory(comm);
  MPI_Comm control = MPI_COMM_NULL;
  MPI_Comm data = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(comm, &control), "MPI_Comm_dup");
  check_mpi(MPI_Comm_dup(comm, &data), "MPI_Comm_dup");
  std::vector<int> ranks;
  for (int rank = 0; rank < topology.world; ++rank) ranks.push_back(rank);
  auto world = std::make_shared<MpiWorld>(control, topology, deadline, std::move(aborted));
  return make_communicator(make_mpi_member(std::move(world), data, std::move(ranks)));
}

}  // namespace

MpiSession::MpiSession()
    : exceptions_at_start_(std::uncaught_exceptions()), aborted_(std::make_shared<std::atomic<bool>>(false)) {
  int initialized = 0;
  check_mpi(MPI_Initialized(&initialized), "MPI_Initialized");
  if (initialized == 0) {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
    owns_mpi_ = true;
  }
  require_threads();
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
}

MpiSession::~MpiSession() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (!owns_mpi_ || finalized != 0) return;
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    fmt::print(stderr, "flexmoe: rank {} leaves by an exception; ending the job\n", rank_);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  if (aborted_->load()) {
    bool all_here = false;
    try {
      all_here = await_everyone_blocking(MPI_COMM_WORLD, MpiWorld::kAbortGrace);
    } catch (const std::exception& error) {
      fmt::print(stderr, "flexmoe: rank {}: {}\n", rank_, error.what());
    }
    if (!all_here) {
      fmt::print(stderr, "flexmoe: rank {}: not all ranks ended after the job was aborted; ending it\n",
                 rank_);
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }
  MPI_Finalize();
}

std::unique_ptr<Communicator> make_mpi_world(const MpiSession& session, int ranks_per_node,
                                             std::chrono::milliseconds deadline) {
  return make_world(MPI_COMM_WORLD, ranks_per_node, deadline, session.aborted_);
}

std::unique_ptr<Communicator> wrap_mpi_comm(MPI_Comm comm, int ranks_per_node,
                                            std::chrono::milliseconds deadline) {
  return make_world(comm, ranks_per_node, deadline, nullptr);
}

}  // namespace flex
