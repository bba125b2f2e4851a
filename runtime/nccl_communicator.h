#pragma once

#ifdef FLEX_HAS_NCCL

#include <nccl.h>

#include <chrono>
#include <memory>

#include "runtime/communicator.h"
#include "runtime/launch_environment.h"
#ifdef FLEX_HAS_MPI
#include "runtime/mpi_communicator.h"
#endif

namespace flex {

struct NcclOptions {
  Device device;           ///< of this rank's buffers: a CUDA device that no other rank uses
  int ranks_per_node = 0;  ///< 0: as the launcher says
  std::chrono::milliseconds deadline{60'000};
  /// Compares every call of all ranks over the control channel before it is made, which costs a round trip: a
  /// rank that calls something else is named at once, instead of after the deadline or never.
  /// FLEX_NCCL_CHECK=1 asks for it too.
  bool checks_calls = false;
};

/// The world of all processes that the launcher has started, one rank each. Collective and blocking.
///
/// CUDA buffers go through NCCL: a call queues its work on the stream, and may wait until NCCL has connected
/// to the peers, never for the device (but for scratch memory of reductions, when it grows). Reductions give
/// the bits that in-process ranks give. Calls on one communicator run in their order, also on several
/// streams; communicators whose calls two ranks make in different orders need streams of their own. CPU
/// buffers and agreement go over a control channel, a TCP connection of every rank to rank 0's process, up to
/// 64 MiB a call: tensors belong on the GPU.
///
/// Failure: a rank that does not come within the deadline, a process that ends or is stopped, calls that
/// differ, or an error of NCCL fails the world on all ranks with one reason, which names the rank and the
/// operation. The next call on any communicator throws it as a CommError; each process prints the last
/// operations of its communicators. Work that was under way on the device is given up: what it should have
/// written is undefined, while its stream goes on. A process that holds its world 5 s longer is ended. On
/// rank 0 the world lives until all other ranks have left it.
/// @throws InputError for options that cannot be; CommError if not all ranks join within the deadline or
/// their versions, settings or world sizes differ; DeviceError.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_world(const LaunchEnvironment& environment,
                                                            const NcclOptions& options);

/// The same over a communicator of the caller's, whose ranks the world's are, and which must be at rest. It
/// is used to agree on a control channel and to make a communicator for Flex alone; after that it is the
/// caller's again, who keeps it as long as he likes. `ranks_per_node` must be given.
[[nodiscard]] std::unique_ptr<Communicator> wrap_nccl_comm(ncclComm_t comm, const NcclOptions& options);

#ifdef FLEX_HAS_MPI
/// The world of all processes of an MPI job: ranks, machines and rank 0's address come from MPI.
[[nodiscard]] std::unique_ptr<Communicator> make_nccl_world(const MpiSession& session,
                                                            const NcclOptions& options);
#endif

/// The version of NCCL that this build runs with: `NCCL 2.28.9`.
[[nodiscard]] std::string nccl_version_text();

}  // namespace flex

#endif  // FLEX_HAS_NCCL
