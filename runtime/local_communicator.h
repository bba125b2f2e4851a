#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "runtime/communicator.h"

namespace flex {

/// A world whose ranks are threads of this process: one communicator for each rank, in rank order. Buffers
/// lie on the CPU and are copied directly from the sender's to the receiver's, without a staging buffer. The
/// communicators share the world's state; they may be destroyed in any order, also while their work is still
/// queued. A rank whose queued collective is skipped because its stream has failed aborts the world.
/// @throws InputError for a topology or deadline that cannot be.
[[nodiscard]] std::vector<std::unique_ptr<Communicator>> make_local_world(Topology topology,
                                                                          std::chrono::milliseconds deadline);

}  // namespace flex
