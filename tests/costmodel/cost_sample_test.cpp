#include "costmodel/cost_sample.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "costmodel/build_schedule.h"
#include "tests/base/expect_error.h"

namespace flex::testing {
namespace {

CostSample product_sample() {
  return {.kind = OperationKind::kExpertFfn,
          .dtype = DType::kBF16,
          .batch = 2,
          .rows = 64,
          .columns = 256,
          .model_dim = 128,
          .bytes = 917504,
          .flops = 16777216,
          .num_chunks = 4,
          .world = 2,
          .ranks_per_node = 2,
          .duration_ns = 210400,
          .device = "a processor",
          .source = "a command"};
}

std::string error_of(std::string_view text) {
  return message_of<InputError>([&] { static_cast<void>(parse_cost_samples(text, "x.jsonl")); });
}

TEST(CostSample, IsOneLineOfJson) {
  EXPECT_EQ(to_json_line(product_sample()),
            R"({"op":"expert_ffn","dtype":"bf16","batch":2,"rows":64,"columns":256,"model_dim":128,)"
            R"("bytes":917504,"flops":16777216.0,"num_chunks":4,"world":2,"ranks_per_node":2,)"
            R"("algorithm":"linear","duration_ns":210400,"device":"a processor","source":"a command"})");
}

TEST(CostSample, ReadsBackEqual) {
  std::vector<CostSample> samples(3, product_sample());
  samples[1] = {.kind = OperationKind::kRailAllToAll,
                .peers = 4,
                .bytes_per_peer = 1000,
                .bytes = 4000,
                .world = 16,
                .ranks_per_node = 4,
                .beside = Beside::kCompute,
                .algorithm = AllToAllAlgorithm::kHierarchical2d};
  samples[2].beside = Beside::kCommunication;
  samples[2].issue_ns = 4321;
  const std::filesystem::path file = std::filesystem::path(::testing::TempDir()) / "flex_samples.jsonl";
  write_cost_samples(file, samples);
  EXPECT_EQ(read_cost_samples(file), samples);
  std::filesystem::remove(file);
}

TEST(CostSample, OfAnOperationHasItsSizes) {
  const Workload workload{.world = 4,
                          .num_experts = 8,
                          .num_tokens = 32,
                          .capacity = 4,
                          .top_k = 1,
                          .model_dim = 16,
                          .hidden_dim = 64};
  const Schedule schedule =
      build_schedule(Part::kExpert, workload, parse_plan("r1 d2 2dh"), {.nodes = 2, .ranks_per_node = 2});
  for (const Operation& operation : schedule.operations) {
    const CostSample sample = sample_of(schedule, operation, 123, 2);
    EXPECT_EQ(sample.kind, operation.kind);
    EXPECT_EQ(sample.rows, operation.size.rows);
    EXPECT_EQ(sample.bytes, operation.size.bytes);
    EXPECT_EQ(sample.flops, operation.size.flops);
    EXPECT_EQ(sample.peers, operation.size.peers);
    EXPECT_EQ(sample.num_chunks, operation.num_chunks);
    EXPECT_EQ(sample.world, 4);
    EXPECT_EQ(sample.model_dim, 16);
    EXPECT_EQ(sample.algorithm, AllToAllAlgorithm::kHierarchical2d);
    EXPECT_EQ(sample.beside, Beside::kNothing);
    EXPECT_EQ(sample.duration_ns, 123);
  }
}

TEST(CostSample, EmptyLinesAreNoSamples) {
  EXPECT_TRUE(parse_cost_samples("", "x").empty());
  EXPECT_EQ(parse_cost_samples(fmt::format("\n{}\r\n\n", to_json_line(product_sample())), "x").size(), 1);
}

TEST(CostSample, ErrorsNameFileLineAndKey) {
  const std::string good = to_json_line(product_sample()) + "\n";
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string line = good;
    line.replace(line.find(from), from.size(), to);
    return good + line;
  };
  EXPECT_EQ(error_of(with(R"("op":"expert_ffn")", R"("op":"expert_fn")")),
            "x.jsonl:2: op: \"expert_fn\" is no operation; did you mean expert_ffn?");
  EXPECT_EQ(error_of(with(R"("duration_ns":210400)", R"("duration_ns":-40)")),
            "x.jsonl:2: duration_ns: is -40; it must be at least 0");
  EXPECT_THAT(error_of(with("bf16", "i32")), ::testing::StartsWith("x.jsonl:2: dtype: "));
  EXPECT_EQ(error_of(with(R"("rows":64)", R"("rows":-1)")), "x.jsonl:2: rows: is -1; it must be at least 0");
  EXPECT_EQ(error_of(with(R"("world":2)", R"("world":0)")),
            "x.jsonl:2: world: is 0; it must be at least 1 and at most 1048576");
  EXPECT_EQ(error_of(with(R"("rows")", R"("row")")), "x.jsonl:2: row: unknown key; did you mean \"rows\"?");
  EXPECT_THAT(error_of(good + "{"), ::testing::StartsWith("x.jsonl:2:"));
}

}  // namespace
}  // namespace flex::testing
