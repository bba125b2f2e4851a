#include "cli/rank_options.h"

#include <chrono>

#include "base/require.h"
#include "cli/checks.h"
#include "runtime/launch.h"

#ifdef FLEX_HAS_MPI
#include "runtime/mpi_communicator.h"
#include "runtime/mpi_launch.h"
#endif
#ifdef FLEX_HAS_NCCL
#include "runtime/nccl_launch.h"

#endif

namespace flex::cli {
namespace {

using Body = std::function<void(Communicator&)>;

void run_mpi([[maybe_unused]] const RankOptions& options, [[maybe_unused]] std::chrono::milliseconds deadline,
             const std::string& command, [[maybe_unused]] const Body& body) {
#ifdef FLEX_HAS_MPI
  const MpiSession session;
  run_mpi_rank(session, options.ranks_per_node, deadline, [&](Communicator& world) {
    require(world.size() > 1 || options.ranks == 1,
            "--launcher mpi: this process is alone; start it with mpirun -n {} flexmoe {} --launcher mpi ...",
            options.ranks, command);
    body(world);
  });
#else
  fail(
      "--launcher mpi: this build has no MPI; install libopenmpi-dev and openmpi-bin, and configure with "
      "-DFLEX_MPI=ON, for flexmoe {}",
      command);
#endif
}

void run_nccl(const RankOptions& options, [[maybe_unused]] std::chrono::milliseconds deadline,
              [[maybe_unused]] const Body& body) {
  const Device device = options.parsed_device();  // throws in a build without NCCL
#ifdef FLEX_HAS_NCCL
  const LaunchEnvironment environment = launch_environment();
  const NcclOptions nccl{.device = device, .ranks_per_node = options.ranks_per_node, .deadline = deadline};
#ifdef FLEX_HAS_MPI
  if (environment.host.empty() && environment.launcher == "mpirun") {  // MPI knows where rank 0 is
    const MpiSession session;
    return run_nccl_rank(session, nccl, body);
  }
#endif
  run_nccl_rank(environment, nccl, body);
#else
  static_cast<void>(device);
#endif
}

}  // namespace

void RankOptions::run(const std::string& command, const std::function<void(Communicator&)>& body) const {
  const auto deadline = std::chrono::milliseconds(static_cast<std::int64_t>(deadline_s * 1e3));
  if (launcher == "threads") {
    run_ranks({.world = ranks, .ranks_per_node = ranks_per_node > 0 ? ranks_per_node : ranks}, deadline,
              body);
    return;
  }
  if (launcher == "mpi") return run_mpi(*this, deadline, command, body);
  run_nccl(*this, deadline, body);
}

Device RankOptions::parsed_device() const {
  const Device parsed = parse_device(device);
  if (launcher != "nccl") return parsed;
  require(
      parsed.is_cuda(),
      "--launcher nccl runs on GPUs, not on {}; use --device cuda, which takes one for each rank of a node",
      device);
#ifdef FLEX_HAS_NCCL
  if (device == "cuda") return device_of_local_rank(launch_environment().local_rank);
  return parsed;
#else
  fail(
      "--launcher nccl: this build has no NCCL; install libnccl-dev, and configure with -DFLEX_CUDA=ON "
      "-DFLEX_NCCL=ON");
#endif
}

Device RankOptions::usable_device(DType dtype) const {
  const Device parsed = parsed_device();
  require_usable(parsed);
  const bool narrow = size_bytes(dtype) == 2;
  require(parsed.is_cuda() ? dtype != DType::kF64 : !narrow, "--dtype {} is not computed on {}; use {}",
          name(dtype), device, parsed.is_cuda() ? "fp32, fp16 or bf16" : "fp32 or fp64");
  return parsed;
}

void add_rank_options(CLI::App& command, RankOptions& options) {
  command
      .add_option("--ranks", options.ranks,
                  "Ranks, as threads; with --launcher mpi or nccl the launcher decides")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command
      .add_option("--ranks-per-node", options.ranks_per_node,
                  "Ranks that count as one node (0: all, or those of one machine)")
      ->check(not_negative())
      ->capture_default_str();
  command
      .add_option(
          "--device", options.device,
          "cpu or cuda:N; in-process ranks share the GPU, and with --launcher nccl cuda is each rank's own")
      ->type_name("DEVICE")
      ->capture_default_str();
  command.add_flag("--tf32", options.tf32, "CUDA, fp32: let matrix products round their operands to TF32");
  command
      .add_option("--launcher", options.launcher,
                  "threads; mpi under mpirun; or nccl, on GPUs, under mpirun, srun or torchrun")
      ->check(CLI::IsMember({"threads", "mpi", "nccl"}))
      ->capture_default_str();
  command.add_option("--deadline", options.deadline_s, "Seconds to wait for a missing rank")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
}

}  // namespace flex::cli
