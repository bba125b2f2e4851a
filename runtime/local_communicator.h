#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "runtime/communicator.h"

namespace flex {

/// A world whose ranks are threads of this process: one communicator for each rank, in rank order. Buffers
/// lie on the CPU, or in a build with CUDA on one GPU, and are copied directly from the sender's to the
/// receiver's, without a staging buffer. The communicators share the world's state; they may be destroyed in
/// any order, also while their work is still queued. A rank whose queued collective is skipped because its
/// stream has failed aborts the world.
///
/// On a CUDA stream the host threads of the ranks meet when the call is made: the call blocks its thread
/// until the peers have made it, too, and throws what fails. The device never waits for a host and the call
/// never waits for the device; the streams wait for each other by events. So every rank needs a thread of its
/// own, which makes its calls on CUDA one after the other, and ranks that share several groups must not wait
/// for each other in a circle of calls. Spans need to live only until the call returns, counters count as it
/// does, and a rank whose call fails with a DeviceError aborts the world. Streams of a group run all on the
/// CPU or all on one GPU in one collective, and always on the same GPU; reductions there take up to 64 ranks.
/// @throws InputError for a topology or deadline that cannot be.
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_local_world(Topology topology,
                                                                          std::chrono::milliseconds deadline);

}  // namespace flex
