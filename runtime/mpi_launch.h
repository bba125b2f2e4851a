#pragma once

#ifdef FLEX_HAS_MPI

#include <chrono>
#include <functional>

#include "runtime/mpi_communicator.h"

namespace flex {

/// Runs `body` with this process's communicator of an MPI world; run_ranks() for a job that mpirun or srun
/// started.
///
/// Where `body` throws, prints `flexmoe: rank 2: <message>` and ends the whole job by MPI_Abort: with 2 for
/// an InputError, else with 1. A rank that fails with a CommError, mostly an echo of another rank's failure,
/// gives that rank a moment to say why.
void run_mpi_rank(const MpiSession& session, int ranks_per_node, std::chrono::milliseconds deadline,
                  const std::function<void(Communicator&)>& body);

}  // namespace flex

#endif  // FLEX_HAS_MPI
