#include "traces/trace_summary.h"

#include <gtest/gtest.h>

#include "tests/traces/cases.h"

namespace flex {
namespace {

TEST(TraceSummary, IsThatOfTheRecords) {
  std::vector<TraceRecord> records = testing::small_records();
  records[0].duration_ns = 10'000;
  records[4].duration_ns = 30'000;
  records[4].plan = parse_plan("r1 d4 2dh");
  records[5].counts.clear();  // no tokens
  TraceReader reader(memory_source(testing::trace_text(testing::small_header(), records)), "trace");
  const TraceSummary summary = summarize(reader);
  EXPECT_EQ(summary.num_records, 8);
  EXPECT_EQ(summary.first_step, 0);
  EXPECT_EQ(summary.last_step, 1);
  ASSERT_EQ(summary.layers.size(), 2);
  const LayerSummary& first = summary.layers[0];
  EXPECT_EQ(first.num_tokens, 10) << "2 x (3 + 2)";
  EXPECT_EQ(first.forward.num_records, 2);
  EXPECT_EQ(first.forward.num_timed, 2);
  EXPECT_EQ(first.forward.us, (Spread{.min = 10, .median = 10, .max = 30}));
  EXPECT_EQ(first.forward.plans,
            (std::map<std::string, std::int64_t>{{"r1 d2 linear", 1}, {"r1 d4 2dh", 1}}));
  EXPECT_EQ(first.backward.plans, (std::map<std::string, std::int64_t>{{"r1 d1 linear", 2}}));
  EXPECT_EQ(first.needed_capacity, (Spread{.min = 3, .median = 3, .max = 3}));
  const LayerSummary& second = summary.layers[1];
  EXPECT_EQ(second.num_tokens, 5);
  EXPECT_EQ(second.needed_capacity, (Spread{.min = 0, .median = 0, .max = 3}));
  EXPECT_EQ(second.max_over_mean, (Spread{.min = 1, .median = 1, .max = 2.4}));
}

TEST(TraceSummary, OfAnEmptyTraceIsEmpty) {
  TraceReader reader(memory_source(testing::trace_text(testing::small_header(), {})), "trace");
  const TraceSummary summary = summarize(reader);
  EXPECT_EQ(summary.num_records, 0);
  EXPECT_EQ(summary.first_step, std::nullopt);
  EXPECT_EQ(summary.layers[1].forward, PassesSummary());
}

}  // namespace
}  // namespace flex
