#pragma once

#include "kernels/event.h"
#include "kernels/stream.h"
#include "runtime/collective_call.h"
#include "runtime/local_rendezvous.h"

namespace flex {

/// What one rank of a group has on its GPU. Two events serve all its collectives there: cudaStreamWaitEvent
/// takes the point that is recorded when it is called, and a rank records an event anew only after a
/// rendezvous to which its peers come when they have issued their waits for the last record: `ready` after
/// leave() of the collective, `done` after arrive() of the next one on CUDA.
struct LocalCudaRank {
  explicit LocalCudaRank(Device device_in) : device(device_in), ready(device_in), done(device_in) {}

  Device device;
  Event ready;  ///< peers may read this rank's buffers
  Event done;   ///< this rank has read its peers' buffers
};

/// Queues `rank`'s part of the next collective of `group` on `stream`, a CUDA stream. Blocks twice until the
/// peers' host threads are in the same call; never waits for the device, and nothing on the device waits for
/// a host. What it reads of the peers' buffers it reads after their streams have come to the call, and work
/// that is queued on `stream` later runs after the peers have read this rank's buffers. Allocates nothing
/// after the first call.
/// @throws InputError for a device other than the first call's, or a reduction over more than 64 ranks;
/// CommError as LocalGroup::arrive(); DeviceError, which aborts the world.
void issue_local_cuda(LocalGroup& group, int rank, const CollectiveCall& call, Stream& stream);

}  // namespace flex
