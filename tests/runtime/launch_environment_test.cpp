#include "runtime/launch_environment.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"
#include "runtime/nccl_settings.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

using Variables = std::map<std::string, std::string>;

EnvironmentLookup in(Variables variables) {
  return [variables = std::move(variables)](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

std::string refused(const Variables& variables) {
  return message_of<InputError>([&] { static_cast<void>(launch_environment(in(variables))); });
}

/// `base` with some variables added or replaced; an empty value takes one away.
Variables with(Variables base, const Variables& changes) {
  for (const auto& [name, value] : changes) {
    base[name] = value;
    if (value.empty()) base.erase(name);
  }
  return base;
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node-a"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "run7"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
const Variables kMpirun = {{"OMPI_COMM_WORLD_RANK", "2"},
                           {"OMPI_COMM_WORLD_SIZE", "4"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                           {"PMIX_NAMESPACE", "1417674753"}};
const Variables kSrun = {{"SLURM_PROCID", "3"},
                         {"SLURM_NTASKS", "6"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"},
                         {"SLURM_STEP_NODELIST", "gpu[003-004,009]"},
                         {"SLURM_JOB_ID", "4711"},
                         {"SLURM_STEP_ID", "0"}};

TEST(LaunchEnvironment, ReadsTorchrunAndLeavesItsPortToIt) {
  const LaunchEnvironment read = launch_environment(in(kTorchrun));
  EXPECT_EQ(read.launcher, "torchrun");
  EXPECT_EQ(read.rank, 5);
  EXPECT_EQ(read.world, 8);
  EXPECT_EQ(read.local_rank, 1);
  EXPECT_EQ(read.local_size, 4);
  EXPECT_EQ(read.job, "run7");
  EXPECT_EQ(read.host, "node-a");
  EXPECT_EQ(read.port, 29501);
  EXPECT_EQ(launch_environment(in(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}}))).port, 29500);
}

TEST(LaunchEnvironment, ReadsMpirunOnOneMachine) {
  const LaunchEnvironment read = launch_environment(in(kMpirun));
  EXPECT_EQ(read.launcher, "mpirun");
  EXPECT_EQ(read.rank, 2);
  EXPECT_EQ(read.world, 4);
  EXPECT_EQ(read.local_size, 4);
  EXPECT_EQ(read.job, "1417674753");
  EXPECT_EQ(read.host, "127.0.0.1");
  EXPECT_GE(read.port, 20000);
  EXPECT_LT(read.port, 30000);
  EXPECT_EQ(launch_environment(in(with(kMpirun, {{"OMPI_COMM_WORLD_RANK", "0"}}))).port, read.port);
  EXPECT_NE(launch_environment(in(with(kMpirun, {{"PMIX_NAMESPACE", "1417674754"}}))).port, read.port);
}

TEST(LaunchEnvironment, MpirunOnSeveralMachinesDoesNotTellWhereRankZeroIs) {
  const Variables several =
      with(kMpirun, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}});
  const LaunchEnvironment read = launch_environment(in(several));
  EXPECT_EQ(read.host, "");
  EXPECT_EQ(read.port, 0);
  EXPECT_EQ(read.local_size, 2);
  const LaunchEnvironment told = launch_environment(in(with(several, {{"FLEX_CONTROL", "10.1.2.3:777"}})));
  EXPECT_EQ(told.host, "10.1.2.3");
  EXPECT_EQ(told.port, 777);
}

TEST(LaunchEnvironment, ReadsSrunAndListensOnTheFirstNode) {
  const LaunchEnvironment read = launch_environment(in(kSrun));
  EXPECT_EQ(read.launcher, "srun");
  EXPECT_EQ(read.rank, 3);
  EXPECT_EQ(read.world, 6);
  EXPECT_EQ(read.local_rank, 1);
  EXPECT_EQ(read.local_size, 2);
  EXPECT_EQ(read.job, "4711.0");
  EXPECT_EQ(read.host, "gpu003");
  EXPECT_GE(read.port, 20000);
  const Variables uneven = with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "2(x2),1"}});
  EXPECT_EQ(launch_environment(in(uneven)).local_size, 0);
  const Variables one = with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "6"}});
  EXPECT_EQ(launch_environment(in(one)).host, "127.0.0.1");
  const Variables asked = with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_NTASKS_PER_NODE", "2"}});
  EXPECT_EQ(launch_environment(in(asked)).local_size, 2);
}

TEST(LaunchEnvironment, TheInnermostLauncherCounts) {
  Variables all = kSrun;
  all.merge(Variables(kMpirun));
  EXPECT_EQ(launch_environment(in(all)).launcher, "mpirun");
  all.merge(Variables(kTorchrun));
  EXPECT_EQ(launch_environment(in(all)).launcher, "torchrun")
      << "mpirun may have started one torchrun a node";
}

TEST(LaunchEnvironment, NcclsOwnAddressIsUsedOnePortHigher) {
  const LaunchEnvironment read = launch_environment(in(with(kMpirun, {{"NCCL_COMM_ID", "10.0.0.9:1234"}})));
  EXPECT_EQ(read.host, "10.0.0.9");
  EXPECT_EQ(read.port, 1235);
  EXPECT_EQ(refused(with(kMpirun, {{"NCCL_COMM_ID", "10.0.0.9:65535"}})),
            "NCCL_COMM_ID: port 65535 leaves none above it for Flex; use a lower one");
}

TEST(LaunchEnvironment, AJobMayBeNamed) {
  EXPECT_EQ(launch_environment(in(with(kSrun, {{"FLEX_JOB", "mine"}}))).job, "mine");
}

TEST(LaunchEnvironment, WithoutALauncherSaysHowToStart) {
  EXPECT_EQ(refused({}),
            "no launcher: none of RANK (torchrun), OMPI_COMM_WORLD_RANK (mpirun) and SLURM_PROCID (srun) is "
            "set. Start one process for each rank, e.g. mpirun -n 4 ..., srun -n 4 ... or torchrun "
            "--nproc-per-node 4 --no-python ...");
  EXPECT_FALSE(has_launcher(in({})));
  EXPECT_TRUE(has_launcher(in(kSrun)));
}

TEST(LaunchEnvironment, NamesTheMissingVariable) {
  EXPECT_EQ(refused(with(kTorchrun, {{"WORLD_SIZE", ""}})),
            "WORLD_SIZE is not set: RANK is, and torchrun sets both");
  EXPECT_EQ(refused(with(kTorchrun, {{"MASTER_PORT", ""}})),
            "MASTER_PORT is not set: RANK is, and torchrun sets both");
  EXPECT_EQ(refused(with(kTorchrun, {{"MASTER_ADDR", ""}})),
            "MASTER_ADDR is not set: RANK is, and torchrun sets both; it is the host of rank 0");
  EXPECT_EQ(refused(with(kMpirun, {{"OMPI_COMM_WORLD_LOCAL_SIZE", ""}})),
            "OMPI_COMM_WORLD_LOCAL_SIZE is not set: OMPI_COMM_WORLD_RANK is, and mpirun sets both");
  EXPECT_EQ(refused(with(kSrun, {{"SLURM_NTASKS", ""}})),
            "SLURM_NTASKS is not set: SLURM_PROCID is, and srun sets both");
}

TEST(LaunchEnvironment, NamesAValueThatCannotBe) {
  EXPECT_EQ(refused(with(kTorchrun, {{"RANK", "two"}})), "RANK is 'two'; it is a number of 0 to 1048576");
  EXPECT_EQ(refused(with(kTorchrun, {{"WORLD_SIZE", "0"}})),
            "WORLD_SIZE is '0'; it is a number of 1 to 1048576");
  EXPECT_EQ(refused(with(kTorchrun, {{"MASTER_PORT", "70000"}})),
            "MASTER_PORT is 70000; ports go up to 65535");
  EXPECT_EQ(refused(with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "many"}})),
            "SLURM_STEP_TASKS_PER_NODE is 'many'; it is a list like 4 or 2(x3),1");
  EXPECT_EQ(refused(with(kSrun, {{"SLURM_STEP_NODELIST", "[1-2"}})), "'[1-2' is no Slurm node list");
  for (const char* text : {"node", "node:", ":12", "node:0", "node:65536", "node:1x"}) {
    EXPECT_EQ(refused(with(kMpirun, {{"FLEX_CONTROL", text}})),
              "FLEX_CONTROL is '" + std::string(text) + "'; it is <host>:<port>, e.g. 10.0.0.1:29500");
  }
}

TEST(LaunchEnvironment, NamesAContradiction) {
  EXPECT_EQ(refused(with(kTorchrun, {{"RANK", "8"}})), "RANK is 8, but WORLD_SIZE is 8; ranks count from 0");
  EXPECT_EQ(refused(with(kTorchrun, {{"LOCAL_RANK", "4"}})),
            "LOCAL_RANK is 4, but LOCAL_WORLD_SIZE is 4; ranks count from 0");
  EXPECT_EQ(refused(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}})),
            "LOCAL_WORLD_SIZE is 9, but WORLD_SIZE is only 8");
  Variables both = with(kTorchrun, {{"TORCHELASTIC_RUN_ID", ""}});
  both.merge(Variables(kMpirun));
  EXPECT_EQ(refused(both),
            "RANK 5 of WORLD_SIZE 8 contradicts OMPI_COMM_WORLD_RANK 2 of OMPI_COMM_WORLD_SIZE 4; unset RANK "
            "and WORLD_SIZE under mpirun");
  EXPECT_EQ(launch_environment(in(with(both, {{"RANK", "2"}, {"WORLD_SIZE", "4"}}))).rank, 2);
}

TEST(LaunchEnvironment, FindsTheFirstHostOfASlurmList) {
  EXPECT_EQ(first_slurm_host("login1"), "login1");
  EXPECT_EQ(first_slurm_host("a,b"), "a");
  EXPECT_EQ(first_slurm_host("gpu[003-004,7],login"), "gpu003");
  EXPECT_EQ(first_slurm_host("rack[2,5]-n,x"), "rack2-n");
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(first_slurm_host("")); }),
            "'' is no Slurm node list");
}

TEST(LaunchEnvironment, AddressesMayBeIpv6) {
  const HostAndPort address = parse_host_and_port("FLEX_CONTROL", "[::1]:29500");
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(address.port, 29500);
}

TEST(NcclSettings, AreWhatMustBeAlikeAndNothingElse) {
  const auto settings = nccl_settings("NCCL 2.28.9", 4, in({{"NCCL_ALGO", "Ring"}, {"NCCL_HOSTID", "x"}}));
  const auto value = [&](const std::string& name) -> std::string {
    for (const Setting& each : settings) {
      if (each.name == name) return each.value;
    }
    return "(absent)";
  };
  EXPECT_EQ(value("the communication library"), "NCCL 2.28.9");
  EXPECT_EQ(value("ranks per node"), "4");
  EXPECT_EQ(value("NCCL_ALGO"), "Ring");
  EXPECT_EQ(value("NCCL_PROTO"), "(not set)");
  EXPECT_EQ(value("NCCL_HOSTID"), "(absent)") << "it names the machine";
}

}  // namespace
}  // namespace flex::testing
