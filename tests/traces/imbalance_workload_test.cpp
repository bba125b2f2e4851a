#include "traces/imbalance_workload.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/traces/cases.h"
#include "traces/generate.h"

/// What the named workloads promise, as fractions, at several numbers of ranks and experts.
namespace flex {
namespace {

using ::testing::Each;
using Workloads = ImbalanceWorkload;

constexpr std::int64_t kTokens = 1024;

struct Shape {
  int world;
  std::int64_t num_experts;
  std::int64_t top_k;
};
constexpr Shape kShapes[] = {{1, 1, 1},  {2, 2, 2},  {4, 8, 2},   {8, 16, 1},
                             {16, 8, 2}, {8, 64, 8}, {64, 128, 2}};

GenerateOptions options_of(Workloads workload, const Shape& shape, std::int64_t num_steps = 40) {
  return {.imbalance = workload,
          .seed = 9,
          .num_steps = num_steps,
          .header = {.world = shape.world,
                     .layers = {{.workload = {.world = shape.world,
                                              .num_experts = shape.num_experts,
                                              .num_tokens = kTokens,
                                              .top_k = shape.top_k,
                                              .hidden_dim = 1024,
                                              .dropless = true},
                                 .capacity_factor = 0}},
                     .origins = {{}}}};
}

// Choices by expert, over all ranks.
std::vector<std::int64_t> by_expert(const GenerateOptions& options, std::int64_t step) {
  const Workload& w = options.header.layers[0].workload;
  const std::vector<std::int64_t> dense = generated_counts(options, step, 0).dense(w.world, w.num_experts);
  std::vector<std::int64_t> sums(static_cast<std::size_t>(w.num_experts));
  for (std::size_t i = 0; i < dense.size(); ++i) sums[i % sums.size()] += dense[i];
  return sums;
}

double share(const std::vector<std::int64_t>& values, std::size_t count) {
  std::vector<std::int64_t> sorted = values;
  std::ranges::sort(sorted, std::greater<>());
  const auto total = std::accumulate(sorted.begin(), sorted.end(), std::int64_t{0});
  const auto top =
      std::accumulate(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count), std::int64_t{0});
  return static_cast<double>(top) / static_cast<double>(total);
}

TEST(ImbalanceWorkload, NamesAreParsedBack) {
  EXPECT_EQ(name(Workloads::kBalanced), "W0");
  EXPECT_EQ(name(Workloads::kBurst), "W7");
  EXPECT_EQ(parse_imbalance_workload("w3"), Workloads::kSpreadHot);
  EXPECT_EQ(parse_imbalance_workload("Drift"), Workloads::kDrift);
  EXPECT_EQ(parse_imbalance_workload("W8"), std::nullopt);
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    const auto workload = static_cast<Workloads>(i);
    EXPECT_EQ(parse_imbalance_workload(name(workload)), workload);
    EXPECT_FALSE(description(workload).empty());
  }
}

// Every record passes the check that a reader makes, whatever the shape: whole tokens, no expert twice.
TEST(ImbalanceWorkload, EveryWorkloadIsATraceAtEveryShape) {
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(::testing::Message() << "W" << i << " " << shape.world << " " << shape.num_experts);
      GenerateOptions options = options_of(static_cast<Workloads>(i), shape, 20);
      options.header = generated_header(options);
      std::vector<TraceRecord> records;
      generate(options, [&](TraceRecord record) { records.push_back(std::move(record)); });
      EXPECT_EQ(records.size(), 40);
      const auto result = testing::read_and_check(testing::trace_text(options.header, records));
      EXPECT_EQ(result.error, "");
      EXPECT_EQ(result.records, records);
    }
  }
}

TEST(ImbalanceWorkload, W0GivesEveryExpertTheSame) {
  for (const Shape& shape : kShapes) {
    const GenerateOptions options = options_of(Workloads::kBalanced, shape);
    const std::int64_t each = shape.world * kTokens * shape.top_k / shape.num_experts;
    EXPECT_THAT(by_expert(options, 3), Each(each)) << "all of these divide";
  }
}

// 64 experts: 8 hot ones share half, 8 times their fair share of the other half's mean.
TEST(ImbalanceWorkload, HotExpertsGetHalf) {
  for (const Workloads workload :
       {Workloads::kHotExperts, Workloads::kHotRank, Workloads::kSpreadHot, Workloads::kRotatingHotspot}) {
    for (const int world : {2, 8, 64}) {
      const auto counts = by_expert(options_of(workload, {world, 64, 2}), 5);
      EXPECT_NEAR(share(counts, 8), 0.5, 0.01) << name(workload) << " at " << world << " ranks";
      EXPECT_LT(share(counts, 16), 0.6);
    }
  }
}

std::vector<std::size_t> hot_places(const std::vector<std::int64_t>& counts, std::size_t num_hot) {
  std::vector<std::size_t> places(counts.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::ranges::sort(places, {}, [&](std::size_t e) { return std::pair(-counts[e], e); });
  places.resize(num_hot);
  std::ranges::sort(places);
  return places;
}

TEST(ImbalanceWorkload, HotExpertsLieWhereTheNameSays) {
  const Shape shape{8, 32, 2};
  EXPECT_THAT(hot_places(by_expert(options_of(Workloads::kHotRank, shape), 1), 4),
              ::testing::ElementsAre(0, 1, 2, 3))
      << "all experts of rank 0";
  EXPECT_THAT(hot_places(by_expert(options_of(Workloads::kSpreadHot, shape), 1), 4),
              ::testing::ElementsAre(0, 8, 16, 24));
  const GenerateOptions rotating = options_of(Workloads::kRotatingHotspot, shape);
  EXPECT_THAT(hot_places(by_expert(rotating, 3), 4), ::testing::ElementsAre(12, 13, 14, 15));
  EXPECT_EQ(hot_places(by_expert(rotating, 3), 4), hot_places(by_expert(rotating, 11), 4))
      << "round in 8 steps";
  GenerateOptions random = options_of(Workloads::kHotExperts, shape);
  const auto places = hot_places(by_expert(random, 1), 4);
  EXPECT_EQ(hot_places(by_expert(random, 2), 4), places) << "the same in every step";
  random.seed = 10;
  EXPECT_NE(hot_places(by_expert(random, 1), 4), places) << "others with another seed";
}

TEST(ImbalanceWorkload, W4SourcesHaveFromAQuarterToAll) {
  for (const int world : {4, 64}) {
    std::int64_t last = kTokens / 4;
    std::int64_t total = 0;
    for (std::int64_t source = 0; source < world; ++source) {
      const std::int64_t tokens = source_tokens(Workloads::kRaggedSources, {}, source, world, kTokens);
      EXPECT_GT(tokens, last);
      last = tokens;
      total += tokens;
    }
    EXPECT_LE(last, kTokens);
    EXPECT_NEAR(static_cast<double>(total) / static_cast<double>(world * kTokens), 0.625, 0.001);
  }
}

TEST(ImbalanceWorkload, W5LeavesAQuarterIdle) {
  const GenerateOptions options = options_of(Workloads::kZeroLoad, {8, 16, 2});
  const auto counts = by_expert(options, 0);
  EXPECT_EQ(std::ranges::count(counts, 0), 4);
  EXPECT_EQ(generated_counts(options, 0, 0).num_rows(), 6);
  EXPECT_TRUE(generated_counts(options, 7, 0).empty());
  EXPECT_TRUE(generated_counts(options, 15, 0).empty());
}

TEST(ImbalanceWorkload, W7IsBalancedButForOneOf16Steps) {
  const GenerateOptions options = options_of(Workloads::kBurst, {8, 64, 2}, 48);
  int num_bursts = 0;
  for (std::int64_t step = 0; step < 48; ++step) {
    const double top = share(by_expert(options, step), 4);
    if (top > 0.1) {
      ++num_bursts;
      EXPECT_NEAR(top, 0.75, 0.01);
    } else {
      EXPECT_NEAR(top, 4.0 / 64, 1e-3);
    }
  }
  EXPECT_EQ(num_bursts, 3);
}

// Needed capacity over the balanced one: from 1 at the first step to the published figure, and down again.
TEST(ImbalanceWorkload, DriftMovesNeededCapacityByThePublishedFactor) {
  for (const int world : {2, 8, 64}) {
    const GenerateOptions options = options_of(Workloads::kDrift, {world, 64, 2}, 100);
    std::vector<double> needed;
    for (std::int64_t step = 0; step < 100; ++step) {
      needed.push_back(
          static_cast<double>(summarize(generated_counts(options, step, 0), 64).needed_capacity));
    }
    EXPECT_EQ(needed.front(), 32) << "2 * 1024 / 64";
    EXPECT_NEAR(std::ranges::max(needed) / std::ranges::min(needed), kPublishedCapacityDrift, 1.0 / 32)
        << "up to rounding to whole slots";
    EXPECT_EQ(std::ranges::max_element(needed) - needed.begin(), 9) << "after a tenth of the run";
    EXPECT_LT(needed.back(), 1.4 * needed.front());
  }
}

TEST(ImbalanceWorkload, DriftDiffersFromLayerToLayer) {
  GenerateOptions options = options_of(Workloads::kDrift, {8, 64, 2}, 100);
  options.header.layers.assign(4, options.header.layers[0]);
  std::vector<std::int64_t> peaks;
  for (std::int64_t layer = 0; layer < 4; ++layer) {
    peaks.push_back(summarize(generated_counts(options, 9, layer), 64).needed_capacity);
    EXPECT_GE(peaks.back(), 32 * 2.69 - 1) << "at least half of the excess";
    EXPECT_LE(peaks.back(), peaks.front());
  }
  std::ranges::sort(peaks);
  EXPECT_EQ(std::ranges::unique(peaks).size(), 0);
}

TEST(ImbalanceWorkload, NoExpertGetsMoreThanATokenCanGive) {
  for (int i = 0; i < kNumImbalanceWorkloads; ++i) {
    for (const Shape& shape : kShapes) {
      for (std::int64_t step = 0; step < 20; ++step) {
        const auto weights =
            expert_weights(static_cast<Workloads>(i), {.seed = 1, .step = step, .num_steps = 20},
                           shape.num_experts, shape.top_k);
        const auto total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
        EXPECT_LE(std::ranges::max(weights) * shape.top_k, total);
        EXPECT_GE(std::ranges::min(weights), 0);
      }
    }
  }
  EXPECT_EQ(message_of<InputError>([] { (void)expert_weights(Workloads::kBalanced, {}, 4, 5); }),
            "top_k is 5; with 4 experts it is from 1 to 4");
}

TEST(Generate, IsAFunctionOfSeedStepAndLayer) {
  GenerateOptions options = options_of(Workloads::kHotExperts, {8, 24, 2});
  const SparseCounts counts = generated_counts(options, 3, 0);
  EXPECT_EQ(generated_counts(options, 3, 0), counts);
  EXPECT_NE(generated_counts(options, 4, 0), counts) << "rounding differs";
  options.seed = 1;
  EXPECT_NE(generated_counts(options, 3, 0), counts);
}

// Worked by hand: 3 tokens, k = 1, two experts; each gets 1 or 2, and which gets 2 varies between ranks.
TEST(Generate, RoundingVariesBetweenRanks) {
  GenerateOptions options = options_of(Workloads::kBalanced, {64, 2, 1});
  options.header.layers[0].workload.num_tokens = 3;
  const SparseCounts counts = generated_counts(options, 0, 0);
  int num_first = 0;
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    ASSERT_EQ(counts.row(i).experts.size(), 2);
    EXPECT_EQ(counts.row(i).experts[0].choices + counts.row(i).experts[1].choices, 3);
    num_first += counts.row(i).experts[0].choices == 2 ? 1 : 0;
  }
  EXPECT_GT(num_first, 16);
  EXPECT_LT(num_first, 48);
}

TEST(Generate, HeaderSaysWhatWasMade) {
  const GenerateOptions options = options_of(Workloads::kBurst, {4, 8, 2});
  const TraceHeader header = generated_header(options);
  ASSERT_EQ(header.origins.size(), 1);
  EXPECT_EQ(header.origins[0], (TraceOrigin{.source = TraceSource::kGenerated, .workload = "W7", .seed = 9}));
  GenerateOptions large = options;
  large.header.layers[0].workload.num_tokens = kMaxTraceCount;
  EXPECT_EQ(
      message_of<InputError>([&] { (void)generated_header(large); }),
      "layers[0]: 2147483647 tokens with top_k 2 are more choices than the 67108864 that are generated");
  large.num_steps = -1;
  EXPECT_EQ(message_of<InputError>([&] { (void)generated_header(large); }),
            "-1 steps; there are zero or more");
}

TEST(Generate, BackwardRecordsComeInTheOppositeOrder) {
  GenerateOptions options = options_of(Workloads::kBalanced, {2, 2, 1}, 1);
  options.header.layers.assign(2, options.header.layers[0]);
  std::vector<std::pair<std::int32_t, Pass>> order;
  generate(options, [&](const TraceRecord& record) { order.emplace_back(record.layer, record.pass); });
  using Order = std::vector<std::pair<std::int32_t, Pass>>;
  EXPECT_EQ(order,
            (Order{{0, Pass::kForward}, {1, Pass::kForward}, {1, Pass::kBackward}, {0, Pass::kBackward}}));
  options.backward = false;
  order.clear();
  generate(options, [&](const TraceRecord& record) { order.emplace_back(record.layer, record.pass); });
  EXPECT_EQ(order, (Order{{0, Pass::kForward}, {1, Pass::kForward}}));
}

}  // namespace
}  // namespace flex
