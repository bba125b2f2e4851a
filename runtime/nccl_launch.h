#pragma once

#ifdef FLEX_HAS_NCCL

#include <functional>

#include "runtime/nccl_communicator.h"

namespace flex {

/// The GPU of this rank of a node: with as many GPUs as ranks each has its own.
[[nodiscard]] Device device_of_local_rank(int local_rank);

/// Runs `body` with this process's communicator of an NCCL world; run_ranks() for a job that mpirun, srun or
/// torchrun has started.
///
/// Where `body` throws, all ranks learn of it, this one prints `flexmoe: rank 2: <message>`, and the process
/// ends after a moment in which the others say the same: with 2 for an InputError, else with 1. It does not
/// come back then: what NCCL holds after a failure is left to the system.
void run_nccl_rank(const LaunchEnvironment& environment, const NcclOptions& options,
                   const std::function<void(Communicator&)>& body);
#ifdef FLEX_HAS_MPI
/// The same for an MPI job.
void run_nccl_rank(const MpiSession& session, const NcclOptions& options,
                   const std::function<void(Communicator&)>& body);
#endif

}  // namespace flex

#endif  // FLEX_HAS_NCCL
