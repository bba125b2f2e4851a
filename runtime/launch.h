#pragma once

#include <chrono>
#include <functional>

#include "runtime/communicator.h"

namespace flex {

/// Runs `body` once for each rank of an in-process world, each in a thread of its own, and returns when all
/// have ended.
///
/// A rank that throws aborts the world (`rank 2 failed: <message>`), so that the others end too. Then the
/// root cause is thrown here: the first exception that is not a CommError, which are mostly echoes of another
/// rank's failure; else the first CommError.
/// @throws whatever `body` threw; InputError for a topology or deadline that cannot be.
void run_ranks(const Topology& topology, std::chrono::milliseconds deadline,
               const std::function<void(Communicator&)>& body);

}  // namespace flex
