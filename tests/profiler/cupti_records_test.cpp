#include "profiler/cupti_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/profiler/forged_records.h"

namespace flex {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::forge_bare;
using testing::forge_copy;
using testing::forge_correlation;
using testing::forge_kernel;
using testing::forge_overhead;

void add(CuptiRecords& records, const Bytes& record) { records.add(record.data(), record.size()); }

WorkId work(std::int64_t iteration, std::int32_t operation, std::int32_t local_rank = 0) {
  return {.iteration = iteration, .local_rank = local_rank, .layer = 3, .pass = 1, .operation = operation};
}

std::vector<std::string> names_of(const std::vector<CuptiActivity>& activities) {
  std::vector<std::string> names;
  for (const CuptiActivity& activity : activities) names.push_back(activity.name);
  return names;
}

TEST(CuptiRecords, AKernelIsOfTheWorkThatItsCallWasMadeFor) {
  CuptiRecords records;
  add(records, forge_correlation(42, pack(work(9, 5))));
  add(records, forge_kernel({.name = "gemm", .correlation = 42, .start = 1000, .end = 1500, .stream = 13}));
  const std::vector<CuptiActivity> taken = records.take(0);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0], (CuptiActivity{.launch = work(9, 5),
                                     .work = work(9, 5),
                                     .kind = CuptiActivity::Kind::kKernel,
                                     .name = "gemm",
                                     .stream = 13,
                                     .correlation = 42,
                                     .begin_ns = 1000,
                                     .end_ns = 1500}));
  EXPECT_EQ(records.counts(), (CuptiCounts{.activities = 1, .correlations = 1}));
  EXPECT_TRUE(records.take(0).empty()) << "taken is gone";
}

TEST(CuptiRecords, CopiesAndMemsetsHaveBytes) {
  CuptiRecords records;
  add(records, forge_copy(cupti::kMemcpy, 8, 1, 10, 20, 4096));
  add(records, forge_copy(cupti::kMemcpy, 99, 1, 11, 20, 1));
  add(records, forge_copy(cupti::kMemset, 8, 1, 30, 40, 64));
  add(records, forge_correlation(1, pack(work(0, 0))));
  const std::vector<CuptiActivity> taken = records.take(0);
  EXPECT_THAT(names_of(taken), ElementsAre("memcpy DtoD", "memcpy", "memset"));
  EXPECT_EQ(taken[0].bytes, 4096);
  EXPECT_EQ(taken[2].bytes, 64);
  EXPECT_EQ(taken[2].kind, CuptiActivity::Kind::kMemset);
}

TEST(CuptiRecords, ACorrelationMayComeAfterItsKernel) {
  CuptiRecords records;
  add(records, forge_kernel({.correlation = 1}));
  EXPECT_TRUE(records.take(0).empty());
  add(records, forge_correlation(1, pack(work(0, 0))));
  EXPECT_EQ(records.take(0).size(), 1U);
}

TEST(CuptiRecords, OtherToolsCorrelationsDoNotCount) {
  CuptiRecords records;
  constexpr std::uint32_t kOpenAcc = 1;
  add(records, forge_correlation(1, pack(work(0, 0)), kOpenAcc));
  add(records, forge_correlation(1, 12345));  // of our kind, but not an id of ours
  add(records, forge_kernel({.correlation = 1}));
  EXPECT_TRUE(records.take(0).empty());
  EXPECT_EQ(records.counts(), (CuptiCounts{.activities = 1, .correlations = 2}));
  records.forget();
  EXPECT_EQ(records.counts().unattributed, 1);
}

TEST(CuptiRecords, RanksTakeTheirOwn) {
  CuptiRecords records;
  for (const std::int32_t rank : {0, 1}) {
    const auto correlation = static_cast<std::uint32_t>(rank + 1);
    add(records, forge_correlation(correlation, pack(work(0, 0, rank))));
    add(records, forge_kernel({.name = rank == 0 ? "zero" : "one", .correlation = correlation}));
  }
  EXPECT_THAT(names_of(records.take(1)), ElementsAre("one"));
  EXPECT_THAT(names_of(records.take(0)), ElementsAre("zero"));
}

// One launch of a graph: all its kernels share the launch's correlation id. Nodes 21 and 22 were captured for
// operations 4 and 5 in iteration 2; what is launched in iteration 8 is the copies of them, 121 and 122.
TEST(CuptiRecords, GraphNodesAreOfTheOperationTheyWereCapturedFor) {
  CuptiRecords records;
  const WorkId launch{.iteration = 8, .layer = 3};
  records.name_node(21, pack(work(2, 4)));
  records.name_node(22, pack(work(2, 5)));
  records.clone_node(121, 21);
  records.clone_node(122, 22);
  records.clone_node(123, 23);  // of an original without a name
  add(records, forge_kernel({.name = "b", .correlation = 7, .start = 200, .end = 300, .graph_node = 122}));
  add(records, forge_kernel({.name = "a", .correlation = 7, .start = 100, .end = 200, .graph_node = 121}));
  add(records, forge_kernel({.name = "c", .correlation = 7, .start = 300, .end = 400, .graph_node = 123}));
  add(records, forge_correlation(7, pack(launch)));
  const std::vector<CuptiActivity> taken = records.take(0);
  ASSERT_THAT(names_of(taken), ElementsAre("a", "b", "c"));
  EXPECT_EQ(taken[0].work, work(8, 4));
  EXPECT_EQ(taken[1].work, work(8, 5));
  EXPECT_EQ(taken[2].work, launch);
  for (const CuptiActivity& activity : taken) EXPECT_EQ(activity.launch, launch);

  records.name_node(121, 0);  // destroyed
  add(records, forge_correlation(8, pack(launch)));
  add(records, forge_kernel({.correlation = 8, .graph_node = 121}));
  EXPECT_EQ(records.take(0).at(0).work, launch);
}

TEST(CuptiRecords, OverheadsAreCuptisOwn) {
  CuptiRecords records;
  add(records, forge_overhead(6U << 16, 50, 60));
  add(records, forge_overhead(1U << 16, 10, 30));
  add(records, forge_overhead(1, 40, 45));
  add(records, forge_overhead(77U << 16, 70, 71));
  EXPECT_THAT(records.take_overheads(), ElementsAre(CuptiOverhead{"cupti buffer flush", 10, 30},
                                                    CuptiOverhead{"driver compiler", 40, 45},
                                                    CuptiOverhead{"cupti command buffer full", 50, 60},
                                                    CuptiOverhead{"cupti overhead 5046272", 70, 71}));
  EXPECT_EQ(records.counts().overheads, 4);
  EXPECT_TRUE(records.take_overheads().empty());
}

TEST(CuptiRecords, CountsWhatCannotBeUsed) {
  CuptiRecords records;
  add(records, forge_bare(testing::kUnknownKind));
  add(records, forge_bare(cupti::kRuntime));
  add(records, forge_bare(cupti::kDriver));
  add(records, forge_kernel({.start = 0, .end = 0}));
  add(records, forge_kernel({.start = 20, .end = 0}));  // not done
  add(records, forge_overhead(1, 0, 0));
  records.add_lost(11);
  EXPECT_EQ(records.counts(), (CuptiCounts{.calls = 2, .unknown = 1, .without_times = 3, .lost = 11}));
  EXPECT_EQ(to_string(records.counts()), "0 activities, 11 lost, 3 without times, 1 of unknown kinds");
}

// Cut at every byte: what is read lies inside, or nothing is. (Under AddressSanitizer a byte too many shows.)
TEST(CuptiRecords, RecordsThatAreCutOffAreDropped) {
  for (const Bytes& whole : {forge_kernel({.correlation = 1}), forge_copy(cupti::kMemcpy, 1, 1, 10, 20, 8),
                             forge_copy(cupti::kMemset, 1, 1, 10, 20, 8),
                             forge_correlation(1, pack(work(0, 0))), forge_overhead(1, 10, 20)}) {
    for (std::size_t size = 0; size <= whole.size(); ++size) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      CuptiRecords records;
      add(records, cut);
      const CuptiCounts& counts = records.counts();
      ASSERT_EQ(counts.too_short + counts.activities + counts.correlations + counts.overheads, 1);
      if (size < 24) {
        ASSERT_EQ(counts.too_short, 1);
      }
      if (size == whole.size()) {
        ASSERT_EQ(counts.too_short, 0);
      }
    }
  }
}

TEST(CuptiRecords, NeedNoAlignment) {
  const Bytes record = forge_kernel({.name = "gemm", .correlation = 1});
  Bytes shifted(record.size() + 1);
  std::ranges::copy(record, shifted.begin() + 1);
  CuptiRecords records;
  records.add(shifted.data() + 1, record.size());
  add(records, forge_correlation(1, pack(work(0, 0))));
  EXPECT_THAT(names_of(records.take(0)), ElementsAre("gemm"));
}

TEST(CuptiRecords, TheReservedIdIsTakenApart) {
  CuptiRecords records;
  add(records, forge_kernel({.correlation = 1}));
  EXPECT_EQ(records.take_reserved(), 0U);
  add(records, forge_correlation(1, kReservedWorkId));
  EXPECT_EQ(records.take_reserved(), 1U);
  EXPECT_EQ(records.take_reserved(), 0U);
  add(records, forge_kernel({.correlation = 2}));
  add(records, forge_correlation(2, kReservedWorkId));
  EXPECT_TRUE(records.take(0).empty());
  EXPECT_EQ(records.take_reserved(), 0U) << "a rank that takes its own lets it go";
  EXPECT_EQ(records.counts().unattributed, 0);
}

TEST(CuptiRecords, WhatIsKeptWaitsForTheRestOfItsRecords) {
  CuptiRecords records;
  add(records, forge_correlation(1, pack(work(1, 0))));
  add(records, forge_correlation(2, pack(work(2, 0))));
  add(records, forge_kernel({.name = "one", .correlation = 1}));
  const auto is_of_two = [](std::uint64_t id) { return unpack_work_id(id)->iteration == 2; };
  EXPECT_THAT(names_of(records.take(0, is_of_two)), ElementsAre("one"));
  add(records, forge_kernel({.name = "two", .correlation = 2}));
  EXPECT_TRUE(records.take(0, is_of_two).empty());
  EXPECT_THAT(names_of(records.take(0)), ElementsAre("two"));
}

TEST(CuptiRecords, ThatWaitForTheirWorkInVainAreBounded) {
  CuptiRecords records;
  constexpr std::uint32_t kSurplus = 3;
  constexpr auto kMax = static_cast<std::uint32_t>(CuptiRecords::kMaxWaiting);
  for (std::uint32_t i = 0; i < kMax + kSurplus; ++i) add(records, forge_kernel({.correlation = i}));
  EXPECT_TRUE(records.take(0).empty());
  EXPECT_EQ(records.counts().unattributed, kSurplus);
  add(records, forge_correlation(kSurplus - 1, pack(work(0, 0))));  // the last that went
  add(records, forge_correlation(kSurplus, pack(work(0, 1))));      // the first that stayed
  const std::vector<CuptiActivity> taken = records.take(0);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(taken[0].work.operation, 1);
}

// What several buffers of several iterations hold, with everything that happens: graphs, other tools, records
// that were lost, ids that contradict each other, two ranks.
std::vector<Bytes> random_records(std::mt19937_64& random) {
  std::vector<Bytes> records;
  const auto below = [&](std::uint64_t end) { return random() % end; };
  const std::uint64_t num_calls = 1 + below(60);
  for (std::uint32_t call = 1; call <= num_calls; ++call) {
    const WorkId id = work(static_cast<std::int64_t>(below(3)), static_cast<std::int32_t>(below(6)),
                           static_cast<std::int32_t>(below(2)));
    if (below(10) != 0) records.push_back(forge_correlation(call, pack(id)));
    for (std::uint64_t twice = below(8); twice >= 6; --twice) {
      records.push_back(forge_correlation(call, pack(work(7, static_cast<std::int32_t>(below(3))))));
    }
    const std::uint64_t num_kernels = below(4);
    for (std::uint64_t k = 0; k < num_kernels; ++k) {
      const std::uint64_t start = below(50);  // often the same
      records.push_back(forge_kernel({.name = k % 2 == 0 ? "even" : "odd",
                                      .correlation = call,
                                      .start = start,
                                      .end = start + below(3),
                                      .graph_node = below(2) * (1 + below(5)),
                                      .stream = static_cast<std::uint32_t>(7 + below(2))}));
    }
    if (below(3) == 0) records.push_back(forge_copy(cupti::kMemcpy, 1, call, 5, 6, 7));
    if (below(9) == 0) records.push_back(forge_overhead(1U << 16, 1 + below(5), 9));
    if (below(9) == 0) records.push_back(forge_bare(testing::kUnknownKind));
  }
  return records;
}

struct Outcome {
  std::vector<CuptiActivity> rank0, rank1;
  std::vector<CuptiOverhead> overheads;
  CuptiCounts counts;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome outcome_of(const std::vector<Bytes>& records, std::size_t num_buffers, std::mt19937_64& random) {
  std::vector<CuptiRecords> buffers(num_buffers);
  for (const Bytes& record : records) add(buffers[random() % num_buffers], record);
  CuptiRecords all;
  for (const std::uint64_t node : {1, 2, 3}) all.name_node(node, pack(work(1, static_cast<int>(node) + 10)));
  std::ranges::shuffle(buffers, random);
  for (CuptiRecords& buffer : buffers) all.merge(std::move(buffer));
  Outcome outcome{.rank0 = all.take(0), .rank1 = all.take(1), .overheads = all.take_overheads()};
  all.forget();
  outcome.counts = all.counts();
  return outcome;
}

TEST(CuptiRecords, AnyOrderOfRecordsAndBuffersGivesTheSame) {
  std::size_t num_attributed = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<Bytes> records = random_records(random);
    const Outcome expected = outcome_of(records, 1, random);
    num_attributed += expected.rank0.size() + expected.rank1.size();
    for (int order = 0; order < 5; ++order) {
      std::ranges::shuffle(records, random);
      ASSERT_EQ(outcome_of(records, 1 + random() % 5, random), expected) << "seed " << seed;
    }
    ASSERT_EQ(expected.counts.activities,
              static_cast<std::int64_t>(expected.rank0.size() + expected.rank1.size()) +
                  expected.counts.unattributed);
  }
  EXPECT_GT(num_attributed, 1000U);
}

// Lost records take away what they say and nothing else.
TEST(CuptiRecords, WithoutSomeRecordsTheOthersStayAsTheyAre) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<Bytes> kernels;
    std::vector<Bytes> correlations;
    for (std::uint32_t call = 1; call <= 20; ++call) {
      correlations.push_back(forge_correlation(call, pack(work(0, static_cast<std::int32_t>(call)))));
      kernels.push_back(forge_kernel({.correlation = call, .start = 100 * call, .end = 100 * call + 50}));
    }
    CuptiRecords records;
    std::vector<std::int32_t> expected;
    for (std::uint32_t i = 0; i < 20; ++i) {
      const bool has_kernel = random() % 4 != 0;
      const bool has_correlation = random() % 4 != 0;
      if (has_kernel) add(records, kernels[i]);
      if (has_correlation) add(records, correlations[i]);
      if (has_kernel && has_correlation) expected.push_back(static_cast<std::int32_t>(i) + 1);
    }
    std::vector<std::int32_t> found;
    for (const CuptiActivity& activity : records.take(0)) {
      found.push_back(activity.work.operation);
      ASSERT_EQ(activity.begin_ns, 100 * activity.work.operation);
    }
    ASSERT_EQ(found, expected) << "seed " << seed;
  }
}

}  // namespace
}  // namespace flex
