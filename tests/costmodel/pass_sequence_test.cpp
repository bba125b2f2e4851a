#include "costmodel/pass_sequence.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

using ::testing::ElementsAre;

// `route`, `forward`, `backward` or `shared` of a layer, which its first count tells.
std::vector<std::string> names_of(const PassSequence& sequence) {
  std::vector<std::string> names;
  for (const SimulatedPass& pass : sequence.passes()) {
    const Schedule& schedule = *pass.schedule;
    std::string name =
        schedule.part == Part::kRoute ? "route" : std::string(flex::name(schedule.workload.pass));
    if (schedule.operations[0].kind == OperationKind::kReduceSharedGradients) name = "shared";
    names.push_back(pass.counts.empty() ? name : fmt::format("{} {}", name, pass.counts[0]));
  }
  return names;
}

TEST(PassSequence, GoesForthAndBackThroughTheLayers) {
  LayerStack stack{.workload = {.world = 2, .num_experts = 2, .num_tokens = 8, .capacity = 4},
                   .backward = parse_plan("r1 d2"),
                   .cluster = {.nodes = 1, .ranks_per_node = 2},
                   .num_layers = 2,
                   .shared_gradient_bytes = 1000};
  const std::vector<std::int64_t> counts = {5, 1, 1, 1, 7, 1, 1, 1};
  PassSequence sequence;
  sequence.build(stack, counts);
  EXPECT_THAT(names_of(sequence), ElementsAre("route 5", "forward 5", "route 7", "forward 7", "backward 7",
                                              "backward 5", "shared"));
  EXPECT_EQ(sequence.passes()[1].schedule->plan, kDefaultPlan);
  EXPECT_EQ(sequence.passes()[4].schedule->plan, stack.backward);
  const Operation& shared = sequence.passes()[6].schedule->operations.at(0);
  EXPECT_EQ(shared.stream, StreamKind::kCommunication);
  EXPECT_EQ(shared.size.bytes, 1000);
  EXPECT_EQ(shared.size.peers, 2);

  stack.passes = Passes::kForward;
  stack.shared_gradient_bytes = 0;
  sequence.build(stack);
  EXPECT_THAT(names_of(sequence), ElementsAre("route", "forward", "route", "forward"));
  stack.passes = Passes::kBackward;
  sequence.build(stack);
  EXPECT_THAT(names_of(sequence), ElementsAre("backward", "backward"));
}

TEST(PassSequence, OneRankSharesNothing) {
  PassSequence sequence;
  sequence.build({.passes = Passes::kBackward, .shared_gradient_bytes = 1000});
  EXPECT_THAT(names_of(sequence), ElementsAre("backward"));
}

TEST(PassSequence, SaysWhatIsWrong) {
  PassSequence sequence;
  EXPECT_EQ(message_of<InputError>([&] { sequence.build({.num_layers = 0}); }),
            "0 layers; a stack has at least 1");
  const std::vector<std::int64_t> counts(3);
  EXPECT_EQ(message_of<InputError>([&] { sequence.build({.num_layers = 2}, counts); }),
            "3 counts; 2 layer(s) of 1 ranks with 1 experts have 2");
  Schedule schedule;
  EXPECT_EQ(message_of<InputError>([&] { build_shared_gradients_into(schedule, {}, -1); }),
            "-1 bytes of shared gradients; they are zero or more");
}

}  // namespace
}  // namespace flex::testing
