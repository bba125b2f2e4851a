#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>

#include "costmodel/build_schedule.h"
#include "tests/costmodel/cases.h"

/// Sizes of operations, worked by hand.
namespace flex::testing {
namespace {

// W = 4 ranks in nodes of 2, E = 2 experts (s = 2), T = 7 tokens, C = 5 rounded up to 6, M = 3, H = 8, fp32.
constexpr Workload kShared = {.world = 4,
                              .num_experts = 2,
                              .num_tokens = 7,
                              .capacity = 5,
                              .top_k = 2,
                              .model_dim = 3,
                              .hidden_dim = 8};

Workload backward(Workload workload) {
  workload.pass = Pass::kBackward;
  return workload;
}

// The size of the operation with this label; its part is the one that has it.
OperationSize size_of(const char* wanted, const char* plan, const Workload& workload = kShared) {
  for (const Part part : {Part::kExpert, Part::kRoute}) {
    if (part == Part::kRoute && workload.pass == Pass::kBackward) continue;
    const Schedule schedule =
        build_schedule(part, workload, parse_plan(plan), {.nodes = 2, .ranks_per_node = 2});
    for (const Operation& operation : schedule.operations) {
      if (label(operation) == wanted) return operation.size;
    }
  }
  throw std::runtime_error(fmt::format("{} has no operation {}", plan, wanted));
}

// The three slots of a part are cut into 1 and 2.
TEST(ScheduleSize, LinearExchange) {
  EXPECT_EQ(size_of("dispatch/all_to_all#1of2", "r1 d2"),
            (OperationSize{.slot_begin = 0, .slots = 1, .peers = 4, .bytes_per_peer = 12, .bytes = 48}));
  EXPECT_EQ(size_of("combine/all_to_all#2of2", "r1 d2"),
            (OperationSize{.slot_begin = 1, .slots = 2, .peers = 4, .bytes_per_peer = 24, .bytes = 96}));
  EXPECT_EQ(size_of("dispatch/rows_to_experts#2of2", "r1 d2"),
            (OperationSize{.slot_begin = 1, .slots = 2, .bytes = 192}));
  EXPECT_EQ(size_of("dispatch/all_to_all", "r2 d1"),
            (OperationSize{.slots = 6, .peers = 4, .bytes_per_peer = 72, .bytes = 288}));
}

TEST(ScheduleSize, HierarchicalExchange) {
  EXPECT_EQ(size_of("dispatch/node_all_to_all#2of2", "r1 d2 2dh"),
            (OperationSize{.slot_begin = 1, .slots = 2, .peers = 2, .bytes_per_peer = 48, .bytes = 96}));
  EXPECT_EQ(size_of("combine/rail_all_to_all#1of2", "r1 d2 2dh"),
            (OperationSize{.slot_begin = 0, .slots = 1, .peers = 2, .bytes_per_peer = 24, .bytes = 48}));
  EXPECT_EQ(size_of("combine/rail_copy#2of2", "r1 d2 2dh"),
            (OperationSize{.slot_begin = 1, .slots = 2, .bytes = 192}));
}

TEST(ScheduleSize, ExpertProducts) {
  // Two slots from each of 4 ranks; 4 bytes for each of 2 * 3 * 8 weights and 8 * (2 * 3 + 2 * 8)
  // activations.
  EXPECT_EQ(size_of("expert_ffn#2of2", "r1 d2"), (OperationSize{.slot_begin = 1,
                                                                .slots = 2,
                                                                .batch = 1,
                                                                .rows = 8,
                                                                .columns = 8,
                                                                .bytes = 896,
                                                                .flops = 2 * 2 * 8 * 3 * 8}));
  const OperationSize half = size_of("expert_ffn", "r2");  // all slots, half of the columns
  EXPECT_EQ(half.rows, 24);
  EXPECT_EQ(half.columns, 4);
  EXPECT_EQ(half.flops, 2 * 2 * 24 * 3 * 4);
  const OperationSize local = size_of("expert_ffn", "r0");  // the own tokens, both experts
  EXPECT_EQ(local.batch, 2);
  EXPECT_EQ(local.rows, 6);
  EXPECT_EQ(local.flops, 2 * 2 * 2 * 6 * 3 * 8);
  const OperationSize weights = size_of("expert_ffn_backward_fc2", "r1 d2", backward(kShared));
  EXPECT_EQ(weights.rows, 12) << "all chunks at once";
  EXPECT_EQ(weights.flops, 2 * 12 * 3 * 8);
  EXPECT_EQ(weights.bytes, 4 * (3 * 8 + 12 * (3 + 8))) << "the gradient, one side's rows and hidden rows";
  Workload gated = kShared;
  gated.ffn = FfnKind::kGated;
  EXPECT_EQ(size_of("expert_ffn_backward_fc1", "r1", backward(gated)).flops, 2 * 2 * 12 * 3 * 8);
  EXPECT_EQ(size_of("expert_ffn_backward_fc2", "r1", backward(gated)).flops, 2 * 12 * 3 * 8);
  EXPECT_EQ(size_of("expert_ffn", "r1", gated).flops, 3 * 2 * 12 * 3 * 8);
}

// The own shard: 2 * 4 * 3 of the matrices, 4 of fc1_bias and ceil(3 / 2) = 2 of fc2_bias.
TEST(ScheduleSize, WeightsAndGradients) {
  EXPECT_EQ(size_of("gather_weights", "r1"),
            (OperationSize{.peers = 2, .bytes_per_peer = 120, .bytes = 240}));
  EXPECT_EQ(size_of("gather_weights", "r0"),
            (OperationSize{.peers = 4, .bytes_per_peer = 120, .bytes = 480}));
  EXPECT_EQ(size_of("scatter_gradients", "r1", backward(kShared)),
            (OperationSize{.peers = 2, .bytes_per_peer = 120, .bytes = 240}));
  Workload frozen = backward(kShared);
  frozen.train_fc2_bias = false;
  EXPECT_EQ(size_of("scatter_gradients", "r1", frozen),
            (OperationSize{.peers = 2, .bytes_per_peer = 112, .bytes = 224}));
}

TEST(ScheduleSize, TokensAndSlots) {
  constexpr std::int64_t kTokenBytes = 84;  // 7 x 3 fp32
  constexpr std::int64_t kSlotBytes = 144;  // 2 x 6 x 3 fp32
  EXPECT_EQ(size_of("encode", "r1").bytes, kTokenBytes + kSlotBytes);
  EXPECT_EQ(size_of("decode", "r1").bytes, 3 * kTokenBytes) << "two choices are read, one row is written";
  EXPECT_EQ(size_of("combine/sum_copies", "r2").bytes, 3 * kSlotBytes);
  EXPECT_EQ(size_of("decode_backward", "r1", backward(kShared)).bytes, 3 * kTokenBytes + kSlotBytes);
  Workload prescore = backward(kShared);
  prescore.is_postscore = false;
  EXPECT_EQ(size_of("decode_backward", "r1", prescore).bytes, kTokenBytes + kSlotBytes);
}

TEST(ScheduleSize, Gate) {
  EXPECT_EQ(size_of("gate", "r1"),
            (OperationSize{.batch = 1, .rows = 7, .columns = 2, .bytes = 84 + 56, .flops = 2 * 7 * 3 * 2}));
  EXPECT_EQ(size_of("gate_backward", "r1", backward(kShared)).flops, 2 * 2 * 7 * 3 * 2);
  Workload cosine = kShared;
  cosine.gate = GateKind::kCosine;
  cosine.projection_dim = 5;
  EXPECT_EQ(size_of("gate", "r1", cosine).flops, 2 * 7 * 5 * (3 + 2));
  EXPECT_EQ(size_of("gate", "r1", cosine).columns, 5);
  Workload noisy = kShared;
  noisy.gate_noise = true;
  EXPECT_EQ(size_of("gate_noise", "r1", noisy).bytes, 2 * 56);
  EXPECT_EQ(size_of("route", "r1").bytes, 2 * 56 + 7 * 2 * (4 + 4 + 4));
  EXPECT_EQ(size_of("gate_loss_sums", "r1").bytes, 56);
}

TEST(ScheduleSize, ReductionsAndAgreements) {
  EXPECT_EQ(size_of("agree_tokens", "r1"), (OperationSize{.peers = 4, .bytes_per_peer = 32, .bytes = 128}));
  EXPECT_EQ(size_of("reduce_gate_loss", "r1"),
            (OperationSize{.peers = 4, .bytes_per_peer = 48, .bytes = 48}));
  EXPECT_EQ(size_of("reduce_gate_gradients", "r1", backward(kShared)),
            (OperationSize{.peers = 4, .bytes_per_peer = 24, .bytes = 24}));
  Workload alone = kShared;
  alone.world = 1;
  alone.dropless = true;
  EXPECT_EQ(size_of("agree_capacity", "r1", alone), OperationSize{});
}

TEST(PlanShape, FollowsTheParallelDegree) {
  Workload quad = kShared;
  quad.num_experts = 1;
  quad.top_k = 1;  // s = 4, C rounded up to 8
  const PlanShape middle = plan_shape(quad, parse_plan("r2"));
  EXPECT_EQ(middle.copies, 2);
  EXPECT_EQ(middle.parts, 2);
  EXPECT_EQ(middle.weight_group, 2);
  EXPECT_EQ(middle.columns, 4);
  EXPECT_EQ(middle.experts, 1);
  EXPECT_EQ(middle.sources, 4);
  EXPECT_EQ(middle.part_slots, 4);
  EXPECT_EQ(middle.rows(), 16);
  EXPECT_TRUE(middle.exchanges && middle.gathers);
  const PlanShape sharded = plan_shape(quad, parse_plan("r4"));
  EXPECT_EQ(sharded.part_slots, 8);
  EXPECT_TRUE(sharded.exchanges && !sharded.gathers);
  const PlanShape local = plan_shape(quad, parse_plan("r0"));
  EXPECT_EQ(local.weight_group, 4);
  EXPECT_EQ(local.rows(), 8);
  EXPECT_TRUE(!local.exchanges && local.gathers);
}

}  // namespace
}  // namespace flex::testing
