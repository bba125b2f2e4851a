#include "runtime/nccl_communicator.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <utility>

#include "base/require.h"
#include "kernels/cuda_check.h"
#include "runtime/nccl_member.h"
#include "runtime/nccl_settings.h"
#include "runtime/tcp_socket.h"

#ifdef FLEX_HAS_MPI
#include "runtime/mpi_check.h"
#endif

namespace flex {
namespace {

/// Where rank 0's process listens, as it tells the others by other means. Travels as bytes.
struct RankZero {
  std::array<char, 64> host{};
  int port = 0;
  std::array<char, 32> job{};
};

template <std::size_t N>
void put_text(std::array<char, N>& to, const std::string& text) {
  require(text.size() < N, "'{}' is longer than {} characters", text, N - 1);
  std::ranges::copy(text, to.begin());
}

/// Listens for the others at an address that they can reach: that of FLEX_CONTROL, or this machine's own.
FileDescriptor listen_for_others(RankZero& rank_zero) {
  HostAndPort at{own_address(), 0};
  if (const auto told = environment_variable("FLEX_CONTROL")) at = parse_host_and_port("FLEX_CONTROL", *told);
  FileDescriptor listener = listen_at(at.host, at.port);
  put_text(rank_zero.host, at.host);
  rank_zero.port = listening_port(listener);
  put_text(rank_zero.job, std::to_string(::getpid()) + "." + std::to_string(rank_zero.port));
  return listener;
}

/// Rank 0's unique id, told over the control channel.
ncclUniqueId agree_on_id(NcclWorld& world, const std::shared_ptr<const GroupOfRanks>& group) {
  ncclUniqueId id{};
  if (world.channel().rank() == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  const std::vector<int>& ranks = group->world_ranks;
  ArrivalMessage arrival{.group = group->id,
                         .number = ~std::uint64_t{0},  // beside the calls of the group
                         .operation = "NCCL's unique id",
                         .call = "NCCL's unique id",
                         .pieces = {std::string(id.internal, sizeof(id.internal))}};
  if (ranks.size() == 1) return id;
  const std::vector<std::string> ids = world.channel().exchange_blocking(arrival);
  require<CommError>(ids[0].size() == sizeof(id.internal),
                     "NCCL's unique id has {} bytes here and {} on rank 0", sizeof(id.internal),
                     ids[0].size());
  std::ranges::copy(ids[0], id.internal);
  return id;
}

/// A communicator that nothing has taken over yet: what fails before that ends it.
struct AbortComm {
  void operator()(ncclComm_t comm) const noexcept { static_cast<void>(ncclCommAbort(comm)); }
};
using OwnComm = std::unique_ptr<std::remove_pointer_t<ncclComm_t>, AbortComm>;

/// A joined world. @param own a communicator of its ranks, taken over; null makes one.
std::unique_ptr<Communicator> make_world(JoinOptions join, int ranks_per_node, const NcclOptions& options,
                                         FileDescriptor listener, OwnComm own) {
  require(options.device.is_cuda(), "NCCL moves CUDA buffers; this rank's device is {}",
          to_string(options.device));
  require(
      ranks_per_node > 0,
      "nodes run different numbers of ranks, or the launcher does not say how many; give the ranks per node");
  const bool checks_calls = options.checks_calls || environment_variable("FLEX_NCCL_CHECK") == "1";
  join.deadline = options.deadline;
  join.settings = nccl_settings(nccl_version_text(), ranks_per_node, environment_variable);
  if (const auto bind = environment_variable("FLEX_CONTROL_BIND")) join.bind = *bind;
  const auto world =
      std::make_shared<NcclWorld>(std::move(join), ranks_per_node, options.device, std::move(listener));
  const std::shared_ptr<const GroupOfRanks> group = world_group(*world);
  try {
    std::unique_ptr<NcclComm> comm;
    if (own != nullptr) {
      comm = std::make_unique<NcclComm>(world->channel(), own.get());
      static_cast<void>(own.release());
    } else if (world->channel().world() > 1) {
      comm = std::make_unique<NcclComm>(world->channel(), agree_on_id(*world, group));
    }
    return make_communicator(
        std::make_shared<NcclMember>(world, group, world->adopt(std::move(comm)), checks_calls));
  } catch (const std::exception& error) {
    world->channel().abort(
        fmt::format("rank {} failed in making its communicator: {}", world->channel().rank(), error.what()));
    throw CommError(world->channel().reason());
  }
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_world(const LaunchEnvironment& environment,
                                              const NcclOptions& options) {
  require(!environment.host.empty(),
          "{} does not say where rank 0 of a job on several machines is; set FLEX_CONTROL=<host of rank "
          "0>:<port> "
          "on all ranks (mpirun: -x FLEX_CONTROL), or use a build with MPI",
          environment.launcher);
  return make_world({.rank = environment.rank,
                     .world = environment.world,
                     .job = environment.job,
                     .host = environment.host,
                     .port = environment.port},
                    options.ranks_per_node > 0 ? options.ranks_per_node : environment.local_size, options,
                    FileDescriptor(), nullptr);
}

std::unique_ptr<Communicator> wrap_nccl_comm(ncclComm_t comm, const NcclOptions& options) {
  require(options.device.is_cuda(), "NCCL moves CUDA buffers; this rank's device is {}",
          to_string(options.device));
  JoinOptions join;
  check_nccl(ncclCommUserRank(comm, &join.rank), "ncclCommUserRank", comm);
  check_nccl(ncclCommCount(comm, &join.world), "ncclCommCount", comm);
  FLEX_CUDA_CHECK(cudaSetDevice(options.device.index));
  OwnComm own(join.world > 1 ? duplicate_blocking(comm, join.rank, options.deadline) : nullptr);
  RankZero rank_zero;
  FileDescriptor listener;
  if (join.rank == 0) listener = listen_for_others(rank_zero);
  if (own != nullptr)
    broadcast_bytes_blocking(own.get(), &rank_zero, sizeof(rank_zero), options.device, options.deadline);
  join.host = rank_zero.host.data();
  join.port = rank_zero.port;
  join.job = rank_zero.job.data();
  return make_world(std::move(join), options.ranks_per_node, options, std::move(listener), std::move(own));
}

#ifdef FLEX_HAS_MPI
std::unique_ptr<Communicator> make_nccl_world(const MpiSession& session, const NcclOptions& options) {
  JoinOptions join{.rank = session.rank(), .world = session.size()};
  int ranks_per_node = options.ranks_per_node;
  {
    // A world of MPI's for a moment: it waits for all ranks with a deadline, and knows the machines.
    const auto world = make_mpi_world(session, options.ranks_per_node, options.deadline);
    ranks_per_node = world->counters().topology().ranks_per_node;
  }
  RankZero rank_zero;
  FileDescriptor listener;
  if (join.rank == 0) listener = listen_for_others(rank_zero);
  check_mpi(MPI_Bcast(&rank_zero, sizeof(rank_zero), MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
  join.host = rank_zero.host.data();
  join.port = rank_zero.port;
  join.job = rank_zero.job.data();
  return make_world(std::move(join), ranks_per_node, options, std::move(listener), nullptr);
}
#endif

}  // namespace flex
