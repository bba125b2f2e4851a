#pragma once

#include <functional>
#include <optional>
#include <string>

namespace flex {

/// A process's place in a job, as its launcher tells it.
struct LaunchEnvironment {
  std::string launcher;  ///< `torchrun`, `mpirun` or `srun`
  int rank = 0;
  int world = 1;
  int local_rank = 0;  ///< among the ranks of this node
  int local_size = 0;  ///< ranks of a node; 0 where nodes have different numbers of them
  std::string job;     ///< names this job among all that could meet at one port; may be empty
  std::string host;    ///< where rank 0 listens; empty where the launcher tells too little
  int port = 0;        ///< 0 where host is empty
};

/// The value of an environment variable; nothing if it is not set.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

/// Reads the variables of the innermost launcher: torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE),
/// mpirun (OMPI_COMM_WORLD_*), srun (SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, ...). Ranks lie node by node.
///
/// The place where rank 0 listens is FLEX_CONTROL=<host>:<port>; else, with torchrun, MASTER_ADDR and
/// MASTER_PORT, one port higher where torchrun's own store has that one; else NCCL_COMM_ID's host, one port
/// higher, because NCCL takes its port; else this machine, if it runs all ranks, or the first node of the
/// srun step, with a port drawn from the job's number. FLEX_JOB replaces the job's name.
/// @throws InputError for a variable that is missing, is no number, or contradicts another one.
[[nodiscard]] LaunchEnvironment launch_environment(const EnvironmentLookup& lookup);
/// The same for this process's environment.
[[nodiscard]] LaunchEnvironment launch_environment();

/// Looks in this process's environment; an empty value counts as none.
[[nodiscard]] std::optional<std::string> environment_variable(const std::string& name);

/// True if a launcher has started this process, by any of the variables above.
[[nodiscard]] bool has_launcher(const EnvironmentLookup& lookup);

/// `<host>:<port>`, or `[<IPv6 address>]:<port>`. @throws InputError that begins with `name`.
struct HostAndPort {
  std::string host;
  int port = 0;
};
[[nodiscard]] HostAndPort parse_host_and_port(const std::string& name, const std::string& text);

/// The first host of a Slurm node list: `gpu[003-004,7],login` gives `gpu003`.
/// @throws InputError for a list that has none.
[[nodiscard]] std::string first_slurm_host(const std::string& nodes);

}  // namespace flex
