#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/build_facts.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "kernels/device.h"
#include "runtime/launch_environment.h"
#include "runtime/processor_name.h"

#ifdef FLEX_HAS_CUDA
#include "base/units.h"
#include "kernels/cuda_check.h"
#endif
#ifdef FLEX_HAS_MPI
#include <mpi.h>
#endif
#ifdef FLEX_HAS_NCCL
#include "runtime/nccl_communicator.h"
#endif

// flexmoe doctor [--json]
// What this build and this machine can do, and what would be needed for the rest.
namespace flex::cli {
namespace {

struct Finding {
  std::string subject;
  bool available;
  std::string detail;
};

std::string memory_text() {
  const double bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return fmt::format("{:.1f} GiB", bytes / (1024.0 * 1024.0 * 1024.0));
}

std::vector<Finding> cuda_findings() {
#ifdef FLEX_HAS_CUDA
  const int count = num_cuda_devices();
  if (count == 0)
    return {{"CUDA devices", false,
             "built with CUDA, but no GPU or no driver was found: everything runs on cpu"}};
  std::vector<Finding> findings;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    FLEX_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
    findings.push_back({fmt::format("cuda:{}", index), true,
                        fmt::format("{}, {:.0f} GiB, {} SMs, compute capability {}.{}", properties.name,
                                    static_cast<double>(properties.totalGlobalMem) / kBytesPerGiB,
                                    properties.multiProcessorCount, properties.major, properties.minor)});
  }
  return findings;
#else
  return {
      {"CUDA devices", false, "not built in: install the CUDA Toolkit and configure with -DFLEX_CUDA=ON"}};
#endif
}

Finding mpi_finding() {
#ifdef FLEX_HAS_MPI
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text, static_cast<std::size_t>(length));
  return {"MPI ranks", true, version.substr(0, version.find(','))};
#else
  return {"MPI ranks", false,
          "not built in: install libopenmpi-dev and openmpi-bin, and configure with -DFLEX_MPI=ON"};
#endif
}

Finding nccl_finding() {
#ifdef FLEX_HAS_NCCL
  const int count = num_cuda_devices();
  return {
      "NCCL ranks", count > 0,
      fmt::format("{}, a GPU for each rank ({} here); start with mpirun, srun or torchrun, --launcher nccl",
                  nccl_version_text(), count == 0 ? std::string("none") : std::to_string(count))};
#else
  return {"NCCL ranks", false,
          "not built in: install libnccl-dev, and configure with -DFLEX_CUDA=ON -DFLEX_NCCL=ON"};
#endif
}

/// Whether a launcher has started this process, and what NCCL ranks take from it.
Finding launcher_finding() {
  if (!has_launcher(environment_variable)) {
    return {"launcher", false, "this process was not started by mpirun, srun or torchrun"};
  }
  try {
    const LaunchEnvironment found = launch_environment();
    const std::string where = found.host.empty() ? std::string("at a place that MPI tells")
                                                 : fmt::format("at {} port {}", found.host, found.port);
    return {"launcher", true,
            fmt::format("{}: rank {} of {}, {} of this node; rank 0 listens {}", found.launcher, found.rank,
                        found.world, found.local_rank, where)};
  } catch (const InputError& error) {
    return {"launcher", false, error.what()};
  }
}

std::vector<Finding> find_all() {
  const BuildFacts facts = build_facts();
  std::vector<Finding> findings = {
      {"build", true, fmt::format("flexmoe {}, {}, {}", facts.version, facts.compiler, facts.build_type)},
      {"processor", true,
       fmt::format("{}, {} threads", processor_name(), std::thread::hardware_concurrency())},
      {"memory", true, memory_text()},
      {"in-process ranks", true, "threads of one process, on cpu"},
      mpi_finding()};
  for (Finding& finding : cuda_findings()) findings.push_back(std::move(finding));
  findings.push_back(nccl_finding());
  findings.push_back(launcher_finding());
  findings.push_back({"CUPTI", facts.cupti, facts.cupti ? "built in" : "not built in"});
  return findings;
}

void run(bool json) {
  const std::vector<Finding> findings = find_all();
  if (json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& [subject, available, detail] : findings) {
      rows.push_back({{"subject", subject}, {"available", available}, {"detail", detail}});
    }
    fmt::print("{}\n", rows.dump(2));
    return;
  }
  Table table({{"what", Align::kLeft}, {"here", Align::kLeft}, {"detail", Align::kLeft}});
  for (const auto& [subject, available, detail] : findings)
    table.add({subject, available ? "yes" : "no", detail});
  fmt::print("{}", table.text());
}

}  // namespace

void add_doctor(CLI::App& app, Outcome&) {
  CLI::App* command = app.add_subcommand("doctor", "What this build and this machine can do");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  command->footer("Example:\n  flexmoe doctor");
  command->callback([json] { run(*json); });
}

}  // namespace flex::cli
