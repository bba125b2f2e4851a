#include "runtime/environment.h"

#include <gmock/gmock.h>

#include <array>
#include <chrono>

#include "base/build_facts.h"
#include "runtime/gather_texts.h"
#include "runtime/launch.h"
#include "runtime/processor_name.h"

namespace flex {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::EndsWith;

Environment environment_of_four(const Cluster& described) {
  std::array<Environment, 4> environments;
  run_ranks({4, 2}, 60s, [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    environments[static_cast<std::size_t>(world.rank())] = environment_of(context, described);
  });
  for (const Environment& environment : environments) EXPECT_EQ(environment, environments[0]);
  return environments[0];
}

TEST(Environment, TellsWhatTheJobIsMadeOf) {
  const Environment environment = environment_of_four({});
  EXPECT_THAT(environment.device, EndsWith(" threads of " + processor_name()));
  EXPECT_EQ(environment.nccl, "in-process");
  EXPECT_EQ(environment.build, build_name());
  EXPECT_EQ(environment.driver, "");
  EXPECT_EQ(environment.cuda, "");
  EXPECT_EQ(environment.world, 4);
  EXPECT_EQ(environment.ranks_per_node, 2);
  EXPECT_EQ(environment.ranks_per_device, 4) << "all ranks share the processor, whatever counts as a node";
}

TEST(Environment, TakesTheLinksFromADescriptionOfTheSameCluster) {
  Cluster described{.nodes = 2, .ranks_per_node = 2, .name = "here"};
  described.device.name = environment_of_four({}).device;
  described.intra_node.name = "shared memory";
  described.inter_node.name = "more of it";
  EXPECT_EQ(environment_of_four(described).intra_node, "shared memory");
  EXPECT_EQ(environment_of_four(described).inter_node, "more of it");

  Cluster of_another_size = described;
  of_another_size.nodes = 3;
  EXPECT_EQ(environment_of_four(of_another_size), environment_of_four({}));
  Cluster of_another_device = described;
  of_another_device.device.name = "NVIDIA H200";
  EXPECT_EQ(environment_of_four(of_another_device), environment_of_four({}));
}

TEST(Environment, FindsTheDriversVersion) {
  EXPECT_EQ(driver_version_in("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19\n"
                              "GCC version:  gcc version 12.2.0\n"),
            "535.129.03");
  EXPECT_EQ(
      driver_version_in("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release\n"),
      "560.35.03");
  EXPECT_EQ(driver_version_in(""), "");
  EXPECT_EQ(driver_version_in("no 12 version ."), "");
}

TEST(GatherTexts, GivesEveryRankAllOfThem) {
  run_ranks({3, 3}, 60s, [](Communicator& world) {
    const std::array<std::string, 3> texts = {"", "eight ch", "more than one word of them"};
    EXPECT_THAT(gather_texts_blocking(texts[static_cast<std::size_t>(world.rank())], world),
                ElementsAre(texts[0], texts[1], texts[2]));
    EXPECT_THAT(gather_texts_blocking("", world), ElementsAre("", "", ""));
  });
}

}  // namespace
}  // namespace flex
