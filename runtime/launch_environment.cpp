#include "runtime/launch_environment.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/require.h"

namespace flex {
namespace {

constexpr int kMostPort = 65535;
constexpr int kMostRanks = 1 << 20;

/// The variables of one launcher. Null where it has none.
struct Names {
  const char* launcher;
  const char* rank;
  const char* world;
  const char* local_rank;
  const char* local_size;
};
constexpr Names kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"};
constexpr Names kMpirun = {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                           "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr Names kSrun = {"srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr};

std::optional<int> parse_number(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

class Reader {
 public:
  explicit Reader(const EnvironmentLookup& lookup) : lookup_(lookup) {}

  [[nodiscard]] std::optional<std::string> text(const std::string& name) const { return lookup_(name); }
  [[nodiscard]] bool has(const std::string& name) const { return lookup_(name).has_value(); }

  /// A number of at least `least`. @param because why it must be there: `RANK is set, and torchrun sets
  /// both`.
  [[nodiscard]] int number(const char* name, int least, std::string_view because) const {
    const std::optional<std::string> value = lookup_(name);
    require(value.has_value(), "{} is not set: {}", name, because);
    const std::optional<int> parsed = parse_number(*value);
    require(parsed.has_value() && *parsed >= least && *parsed <= kMostRanks,
            "{} is '{}'; it is a number of {} to {}", name, *value, least, kMostRanks);
    return *parsed;
  }

 private:
  const EnvironmentLookup& lookup_;
};

/// torchrun starts processes also under mpirun and srun, and mpirun under srun: the innermost one counts.
Names innermost_launcher(const Reader& reader) {
  for (const Names& names : {kTorchrun, kMpirun, kSrun}) {
    if (reader.has(names.rank)) return names;
  }
  fail(
      "no launcher: none of RANK (torchrun), OMPI_COMM_WORLD_RANK (mpirun) and SLURM_PROCID (srun) is set. "
      "Start one process for each rank, e.g. mpirun -n 4 ..., srun -n 4 ... or torchrun --nproc-per-node 4 "
      "--no-python ...");
}

void read_place(const Reader& reader, const Names& names, LaunchEnvironment& environment) {
  const std::string because = fmt::format("{} is, and {} sets both", names.rank, names.launcher);
  environment.launcher = names.launcher;
  environment.rank = reader.number(names.rank, 0, because);
  environment.world = reader.number(names.world, 1, because);
  environment.local_rank = reader.number(names.local_rank, 0, because);
  require(environment.rank < environment.world, "{} is {}, but {} is {}; ranks count from 0", names.rank,
          environment.rank, names.world, environment.world);
  if (names.local_size == nullptr) return;
  environment.local_size = reader.number(names.local_size, 1, because);
  require(environment.local_rank < environment.local_size, "{} is {}, but {} is {}; ranks count from 0",
          names.local_rank, environment.local_rank, names.local_size, environment.local_size);
  require(environment.local_size <= environment.world, "{} is {}, but {} is only {}", names.local_size,
          environment.local_size, names.world, environment.world);
}

/// RANK and WORLD_SIZE may be set by hand: then they must not contradict mpirun. torchrun says that it is
/// there, and may well run under an mpirun that counts nodes.
void require_one_launcher(const Reader& reader, const LaunchEnvironment& environment) {
  if (environment.launcher != kTorchrun.launcher || reader.has("TORCHELASTIC_RUN_ID")) return;
  if (!reader.has(kMpirun.rank)) return;
  const int rank = reader.number(kMpirun.rank, 0, "");
  const int world = reader.number(kMpirun.world, 1, "mpirun sets it");
  require(
      rank == environment.rank && world == environment.world,
      "RANK {} of WORLD_SIZE {} contradicts OMPI_COMM_WORLD_RANK {} of OMPI_COMM_WORLD_SIZE {}; unset RANK "
      "and WORLD_SIZE under mpirun",
      environment.rank, environment.world, rank, world);
}

/// `2(x3)`, `4` or `2,2,1`: tasks of each node. @return 0 if they differ.
int uniform_slurm_tasks(const std::string& text) {
  int uniform = 0;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view entry = std::string_view(text).substr(begin, end - begin);
    const std::optional<int> tasks = parse_number(entry.substr(0, entry.find('(')));
    require(tasks.has_value() && *tasks > 0,
            "SLURM_STEP_TASKS_PER_NODE is '{}'; it is a list like 4 or 2(x3),1", text);
    if (uniform != 0 && *tasks != uniform) return 0;
    uniform = *tasks;
    begin = end + 1;
  }
  return uniform;
}

void read_slurm_nodes(const Reader& reader, LaunchEnvironment& environment) {
  if (const auto tasks = reader.text("SLURM_STEP_TASKS_PER_NODE")) {
    environment.local_size = uniform_slurm_tasks(*tasks);
  } else if (reader.has("SLURM_NTASKS_PER_NODE")) {
    environment.local_size = reader.number("SLURM_NTASKS_PER_NODE", 1, "");
  }
}

std::string job_name(const Reader& reader, const LaunchEnvironment& environment) {
  if (const auto own = reader.text("FLEX_JOB")) return *own;
  if (environment.launcher == kTorchrun.launcher) return reader.text("TORCHELASTIC_RUN_ID").value_or("");
  if (environment.launcher == kMpirun.launcher) {
    return reader.text("PMIX_NAMESPACE").value_or(reader.text("OMPI_MCA_ess_base_jobid").value_or(""));
  }
  const std::string job = reader.text("SLURM_JOB_ID").value_or("");
  return job.empty() ? job : job + "." + reader.text("SLURM_STEP_ID").value_or("");
}

/// A port that two jobs of one machine share only by chance; the job's name then tells them apart.
int port_of_job(const std::string& job) {
  constexpr int kFirst = 20000;  // below what systems hand out by themselves
  constexpr std::uint32_t kPorts = 10000;
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return kFirst + static_cast<int>(hash % kPorts);
}

HostAndPort one_port_higher(const char* name, HostAndPort address) {
  require(address.port < kMostPort, "{}: port {} leaves none above it for Flex; use a lower one", name,
          address.port);
  ++address.port;
  return address;
}

HostAndPort master_address(const Reader& reader) {
  const std::optional<std::string> host = reader.text("MASTER_ADDR");
  require(host.has_value() && !host->empty(),
          "MASTER_ADDR is not set: RANK is, and torchrun sets both; it is the host of rank 0");
  const int port = reader.number("MASTER_PORT", 1, "RANK is, and torchrun sets both");
  require(port <= kMostPort, "MASTER_PORT is {}; ports go up to {}", port, kMostPort);
  HostAndPort address{*host, port};
  // There torchrun listens itself.
  if (reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True")
    return one_port_higher("MASTER_PORT", std::move(address));
  return address;
}

HostAndPort find_address(const Reader& reader, const LaunchEnvironment& environment) {
  if (const auto own = reader.text("FLEX_CONTROL")) return parse_host_and_port("FLEX_CONTROL", *own);
  if (environment.launcher == kTorchrun.launcher) return master_address(reader);
  if (const auto nccl = reader.text("NCCL_COMM_ID")) {
    return one_port_higher("NCCL_COMM_ID", parse_host_and_port("NCCL_COMM_ID", *nccl));
  }
  if (environment.local_size == environment.world) return {"127.0.0.1", port_of_job(environment.job)};
  if (environment.launcher != kSrun.launcher) return {};
  for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"}) {
    if (const auto nodes = reader.text(name)) return {first_slurm_host(*nodes), port_of_job(environment.job)};
  }
  return {};
}

}  // namespace

HostAndPort parse_host_and_port(const std::string& name, const std::string& text) {
  const std::size_t colon = text.rfind(':');
  const int port =
      colon == std::string::npos ? 0 : parse_number(std::string_view(text).substr(colon + 1)).value_or(0);
  std::string host = text.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  require(!host.empty() && port >= 1 && port <= kMostPort,
          "{} is '{}'; it is <host>:<port>, e.g. 10.0.0.1:29500", name, text);
  return {std::move(host), port};
}

std::string first_slurm_host(const std::string& nodes) {
  const std::size_t stop = nodes.find_first_of(",[");
  std::string host = nodes.substr(0, stop);
  if (stop != std::string::npos && nodes[stop] == '[') {
    const std::size_t end = nodes.find_first_of(",-]", stop + 1);
    require(end != std::string::npos && end > stop + 1, "'{}' is no Slurm node list", nodes);
    host += nodes.substr(stop + 1, end - stop - 1);
    const std::size_t close = nodes.find(']', stop);
    require(close != std::string::npos, "'{}' is no Slurm node list", nodes);
    // A suffix after the bracket belongs to each of its names.
    const std::size_t suffix_end = std::min(nodes.find(',', close), nodes.size());
    host += nodes.substr(close + 1, suffix_end - close - 1);
  }
  require(!host.empty(), "'{}' is no Slurm node list", nodes);
  return host;
}

LaunchEnvironment launch_environment(const EnvironmentLookup& lookup) {
  const Reader reader(lookup);
  LaunchEnvironment environment;
  const Names names = innermost_launcher(reader);
  read_place(reader, names, environment);
  require_one_launcher(reader, environment);
  if (environment.launcher == kSrun.launcher) read_slurm_nodes(reader, environment);
  environment.job = job_name(reader, environment);
  const HostAndPort address = find_address(reader, environment);
  environment.host = address.host;
  environment.port = address.port;
  return environment;
}

LaunchEnvironment launch_environment() { return launch_environment(environment_variable); }

std::optional<std::string> environment_variable(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

bool has_launcher(const EnvironmentLookup& lookup) {
  for (const Names& names : {kTorchrun, kMpirun, kSrun}) {
    if (lookup(names.rank).has_value()) return true;
  }
  return false;
}

}  // namespace flex
