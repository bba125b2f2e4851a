#include "cli/rank_options.h"

#include <chrono>

#include "base/require.h"
#include "runtime/launch.h"

#ifdef FLEX_HAS_MPI
#include "runtime/mpi_communicator.h"
#include "runtime/mpi_launch.h"
#endif

namespace flex::cli {

void RankOptions::run(const std::string& command, const std::function<void(Communicator&)>& body) const {
  const auto deadline = std::chrono::milliseconds(static_cast<std::int64_t>(deadline_s * 1e3));
  if (launcher == "threads") {
    run_ranks({.world = ranks, .ranks_per_node = ranks_per_node > 0 ? ranks_per_node : ranks}, deadline,
              body);
    return;
  }
#ifdef FLEX_HAS_MPI
  const MpiSession session;
  run_mpi_rank(session, ranks_per_node, deadline, [&](Communicator& world) {
    require(world.size() > 1 || ranks == 1,
            "--launcher mpi: this process is alone; start it with mpirun -n {} flexmoe {} --launcher mpi ...",
            ranks, command);
    body(world);
  });
#else
  fail(
      "--launcher mpi: this build has no MPI; install libopenmpi-dev and openmpi-bin, and configure with "
      "-DFLEX_MPI=ON, for flexmoe {}",
      command);
#endif
}

Device RankOptions::usable_device(DType dtype) const {
  const Device parsed = parse_device(device);
  require_usable(parsed);
  const bool narrow = size_bytes(dtype) == 2;
  require(parsed.is_cuda() ? dtype != DType::kF64 : !narrow, "--dtype {} is not computed on {}; use {}",
          name(dtype), device, parsed.is_cuda() ? "fp32, fp16 or bf16" : "fp32 or fp64");
  return parsed;
}

void add_rank_options(CLI::App& command, RankOptions& options) {
  command.add_option("--ranks", options.ranks, "Ranks, as threads; under --launcher mpi mpirun decides")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--ranks-per-node", options.ranks_per_node,
                  "Ranks that count as one node (0: all, or those of one machine)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--device", options.device, "cpu or cuda:N; in-process ranks share the GPU")
      ->capture_default_str();
  command.add_flag("--tf32", options.tf32, "CUDA, fp32: let matrix products round their operands to TF32");
  command.add_option("--launcher", options.launcher, "threads, or mpi under mpirun")
      ->check(CLI::IsMember({"threads", "mpi"}))
      ->capture_default_str();
  command.add_option("--deadline", options.deadline_s, "Seconds to wait for a missing rank")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
}

}  // namespace flex::cli
