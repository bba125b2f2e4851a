#pragma once

#include <mpi.h>

#include <memory>
#include <vector>

#include "runtime/collective_engine.h"
#include "runtime/mpi_world.h"

namespace flex {

/// This process's membership of the group `world_ranks`. Takes over `comm`, a communicator of exactly these
/// ranks that nobody else uses. All collectives run over point-to-point messages, polled, so that each has a
/// deadline.
[[nodiscard]] std::shared_ptr<CollectiveEngine> make_mpi_member(std::shared_ptr<MpiWorld> world,
                                                                MPI_Comm comm, std::vector<int> world_ranks);

}  // namespace flex
