#include "traces/trace_text.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/philox.h"
#include "tests/traces/cases.h"

namespace flex {
namespace {

using testing::read_and_check;
using testing::ReadResult;
using testing::small_backward;
using testing::small_forward;
using testing::small_header;
using testing::small_records;
using testing::trace_text;

std::string line_of(const TraceRecord& record) {
  std::string text;
  append_record_line(record, text);
  return text;
}

// The checksum stands over everything before its member.
TEST(TraceText, LinesAreAsDocumented) {
  const std::string body =
      R"({"step":7,"layer":1,"pass":"forward","plan":"r1 d2 linear","duration_ns":81250,"needed_capacity":3,)"
      R"("counts":[[0,3,-1,3],[2,-1,1,-3,1,1,1]])";
  const std::string line = line_of(small_forward(7, 1));
  EXPECT_EQ(line.substr(0, body.size()), body);
  EXPECT_EQ(line.substr(body.size()), fmt::format(",\"crc32\":\"{:08x}\"}}\n", trace_checksum(body)));
  EXPECT_THAT(
      line_of(small_backward(7, 1)),
      ::testing::StartsWith(
          R"({"step":7,"layer":1,"pass":"backward","plan":"r1 d1 linear","duration_ns":160000,"crc32":)"));
  EXPECT_THAT(
      line_of({.step = 1, .top_k = 1, .capacity_factor = 0.5}),
      ::testing::StartsWith(
          R"({"step":1,"layer":0,"pass":"forward","top_k":1,"capacity_factor":0.5,"needed_capacity":0,"counts":[],)"));
  std::string trailer;
  append_trailer_line({.num_records = 12, .num_dropped = 3}, trailer);
  EXPECT_THAT(trailer, ::testing::StartsWith(R"({"records":12,"dropped":3,"crc32":")"));
}

// The check value that CRC-32 is known by.
TEST(TraceText, ChecksumIsCrc32) { EXPECT_EQ(trace_checksum("123456789"), 0xCBF43926U); }

TEST(TraceText, EqualLayersOfAHeaderAreCounted) {
  TraceHeader header = small_header();
  header.layers.insert(header.layers.begin(), 2, header.layers.front());
  std::string text;
  append_header_line(header, text);
  EXPECT_THAT(text,
              ::testing::HasSubstr(
                  R"("layers":[{"count":3,"num_experts":8,"num_tokens":16,"capacity_factor":1.25,"top_k":2,)"
                  R"("model_dim":64,"hidden_dim":128,"dtype":"bf16"},{"num_experts":8,)"));
  EXPECT_EQ(read_and_check(trace_text(header, {})).header, header);
}

TEST(TraceText, EveryFieldOfAHeaderIsKept) {
  TraceHeader header = small_header();
  header.model = R"(a "quoted" model, ä)";
  header.origins = {{.source = TraceSource::kResharded,
                     .policy = "resample",
                     .file = "x.jsonl",
                     .world = 8,
                     .seed = ~std::uint64_t{0}},
                    {.source = TraceSource::kGenerated, .workload = "W1", .seed = 0},
                    {.source = TraceSource::kImported},
                    {.source = TraceSource::kRecorded}};
  header.layers[0].capacity_factor = -0.1;
  Workload& w = header.layers[0].workload;
  w.dropless = true;
  w.ffn = FfnKind::kGated;
  w.gate = GateKind::kCosine;
  w.projection_dim = 7;
  w.fc1_bias = w.fc2_bias = w.train_fc2_bias = w.is_postscore = w.gate_loss = false;
  w.global_loss_scope = w.agree_on_tokens = false;
  w.gate_noise = w.regather_weights = true;
  EXPECT_EQ(read_and_check(trace_text(header, {})).header, header);
}

TEST(TraceText, RoundTripsKeepEveryRecord) {
  for (const bool packed : {false, true}) {
    const std::string text = trace_text(small_header(), small_records(), 4);
    const ReadResult result = read_and_check(packed ? testing::gzip_text(text) : text);
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(result.header, small_header());
    EXPECT_EQ(result.records, small_records());
    EXPECT_EQ(result.trailer, (TraceTrailer{.num_records = 8, .num_dropped = 4}));
  }
}

// Random shapes, counts, plans and times; read_and_check() writes what it read once more.
TEST(TraceText, RoundTripsOfRandomTraces) {
  PhiloxStream random(11);
  for (int round = 0; round < 40; ++round) {
    TraceHeader header = small_header();
    const int world = 1 << random.below(5);
    header.world = world;
    header.ranks_per_node = 1;
    for (TraceLayer& layer : header.layers) {
      layer.workload.world = world;
      layer.workload.num_experts = world * (1 + random.below(5));
      layer.workload.top_k = 1 + random.below(std::min<std::int64_t>(layer.workload.num_experts, 4));
      layer.workload.num_tokens = random.below(100);
    }
    std::vector<TraceRecord> records;
    for (std::int64_t step = 0; step < 4; ++step) {
      const std::int64_t layer = random.below(2);
      TraceRecord record{.step = step * step, .layer = static_cast<std::int32_t>(layer)};
      record.counts = testing::random_counts(header.layers[static_cast<std::size_t>(layer)].workload, random);
      if (random.below(2) == 0) record.duration_ns = static_cast<std::int64_t>(random.next_u64() >> 1);
      if (random.below(2) == 0) record.capacity_factor = random.normal();
      records.push_back(record);
      if (random.below(2) == 0) records.push_back(small_backward(record.step, record.layer));
    }
    const ReadResult result = read_and_check(trace_text(header, records));
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(result.records, records) << "round " << round;
  }
}

}  // namespace
}  // namespace flex
