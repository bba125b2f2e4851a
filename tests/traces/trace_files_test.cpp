#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>
#include <vector>

#include "base/read_file.h"
#include "tests/traces/cases.h"
#include "traces/generate.h"

/// Files that the project ships: samples, and the example of the documentation; and how large files become.
namespace flex {
namespace {

using testing::read_and_check;
using testing::ReadResult;

const std::filesystem::path kSource = FLEX_SOURCE_DIR;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 20;

TEST(TraceFiles, SamplesAreWhole) {
  int num_samples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "traces/samples")) {
    if (entry.path().extension() == ".md") continue;
    ++num_samples;
    TraceReader reader(entry.path());
    TraceRecord record;
    while (reader.next(record)) {
    }
    EXPECT_TRUE(reader.trailer()) << entry.path();
    EXPECT_LE(std::filesystem::file_size(entry.path()), 8'000) << entry.path();
  }
  EXPECT_EQ(num_samples, 4);
}

// What its command says: 4 ranks with 256 tokens each at 2 of 8 experts, 60 training steps; the needed
// capacity grows by 3, give or take the spread of what the ranks draw, and falls again.
TEST(TraceFiles, TheRecordedSampleIsARunOfTheLayer) {
  TraceReader reader(kSource / "traces/samples/recorded_online.jsonl.gz");
  const TraceHeader& header = reader.header();
  EXPECT_EQ(header.origins, std::vector<TraceOrigin>(1));
  EXPECT_EQ(header.model, "flexmoe bench --policy online");
  EXPECT_NE(header.hardware, "");
  EXPECT_EQ(header.world, 4);
  ASSERT_EQ(header.layers.size(), 1);
  EXPECT_EQ(header.layers[0].capacity_factor, 0);
  std::int64_t step = 0;
  std::set<Plan> plans;
  std::vector<std::int64_t> capacities;
  TraceRecord record;
  for (; reader.next(record); ++step) {
    EXPECT_EQ(record.step, step);
    EXPECT_EQ(record.pass, Pass::kForward);
    EXPECT_GT(record.duration_ns, 0);
    plans.insert(record.plan.value());
    ASSERT_EQ(record.counts.num_rows(), 4);
    EXPECT_EQ(summarize(record.counts, 8).num_choices, 4 * 256 * 2);
    const Workload workload = workload_of(header, record, Pass::kForward);
    EXPECT_EQ(workload.num_tokens, 256);
    capacities.push_back(workload.capacity);
    const Plan forward = record.plan.value();
    ASSERT_TRUE(reader.next(record));
    EXPECT_EQ(record.step, step);
    EXPECT_EQ(record.pass, Pass::kBackward);
    EXPECT_EQ(record.plan.value().parallel_degree, forward.parallel_degree);
    EXPECT_GT(record.duration_ns, 0);
  }
  EXPECT_EQ(step, 60);
  EXPECT_EQ(reader.trailer(), (TraceTrailer{.num_records = 120}));
  EXPECT_GE(plans.size(), 2) << "the policy changed plans";
  // Even, an expert has 64 of a rank's choices, with a spread of 7.5; in the middle expert 0 has 192, of 7.
  EXPECT_NEAR(static_cast<double>(capacities.front()), 64 + 2 * 7.5, 2 * 7.5);
  EXPECT_NEAR(static_cast<double>(*std::ranges::max_element(capacities)), 192 + 2 * 7, 4 * 7);
}

TEST(TraceFiles, TheExampleOfTheDocumentationIsATrace) {
  const std::string text = read_file(kSource / "docs/trace-format.md", kMaxBytes);
  const std::string begin = "```jsonl\n";
  const std::size_t at = text.find(begin);
  ASSERT_NE(at, std::string::npos);
  const std::string example =
      text.substr(at + begin.size(), text.find("```", at + begin.size()) - at - begin.size());
  const ReadResult result = read_and_check(example);
  EXPECT_EQ(result.error, "");
  ASSERT_EQ(result.records.size(), 3);
  EXPECT_EQ(result.header->world, 4);
  EXPECT_EQ(result.records[0].counts.dense(4, 8)[8 + 6], 1) << "rank 1, expert 6, as the text says";
  EXPECT_EQ(result.records[1].pass, Pass::kBackward);
}

// One record of 2,048 ranks with as many experts: 16 choices of every rank and expert in the mean, all used;
// then fewer tokens, so that most of the 4.2 million pairs are zero. One character more than its digits for
// each pair that is used, and a gap of some characters before those that follow zeros.
TEST(TraceFiles, ARecordOf2048RanksIsBounded) {
  const int world = 2048;
  for (const std::int64_t num_tokens : {std::int64_t{16'384}, std::int64_t{256}}) {
    PhiloxStream random(1);
    const Workload w{.world = world, .num_experts = world, .num_tokens = num_tokens, .top_k = 2};
    TraceRecord record;
    for (std::int32_t source = 0; source < world; ++source) {
      testing::add_random_row(source, num_tokens, world, 2, random, record.counts);
    }
    TraceHeader header = testing::small_header();
    header.world = world;
    header.layers.resize(1);
    header.layers[0].workload = w;
    const std::string plain = testing::trace_text(header, {record});
    const std::size_t used = record.counts.num_entries();
    const double bytes_per_pair = static_cast<double>(plain.size()) / static_cast<double>(used);
    const std::string packed = testing::gzip_text(plain);
    std::cout << num_tokens << " tokens per rank: " << used << " pairs, " << plain.size() << " bytes, "
              << packed.size() << " packed\n";
    RecordProperty(fmt::format("bytes_{}", num_tokens), std::to_string(plain.size()));
    EXPECT_LT(bytes_per_pair, num_tokens > world ? 3.1 : 5.5);
    EXPECT_LT(plain.size(), kMaxLineBytes / 4);
    EXPECT_LT(packed.size(), plain.size() / 2);
    EXPECT_EQ(read_and_check(plain).error, "");
  }
}

}  // namespace
}  // namespace flex
