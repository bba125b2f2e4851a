#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/traces/replay/cases.h"
#include "traces/replay/replay_json.h"

namespace flex {
namespace {

using testing::generated;
using testing::on_ndv4;

// The whole document, to the last digit.
TEST(ReplayThreads, AnyNumberOfThemGivesEqualBits) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 12);
  const std::vector<Scenario> scenarios = {on_ndv4(), compared_scenario(on_ndv4(), "k=1"),
                                           compared_scenario(on_ndv4(), "nodes=4 reshard=resample")};
  ReplayOptions options{
      .policies = all_replay_policies(trace), .noise = {.sigma = 0.05}, .model_error = 0.1, .seed = 9};
  const auto document = [&](int workers) {
    options.num_workers = workers;
    return replay_json("f", trace, replay(trace, scenarios, options), options).dump();
  };
  const std::string one = document(1);
  for (const int workers : {2, 4, 7}) EXPECT_EQ(document(workers), one) << workers;
  options.seed = 10;
  EXPECT_NE(document(1), one) << "the seed counts";
}

TEST(ReplayThreads, ProgressReachesItsEnd) {
  const IterationTrace trace = generated(ImbalanceWorkload::kDrift, 4);
  const std::vector<Scenario> scenarios = {on_ndv4(), compared_scenario(on_ndv4(), "k=1")};
  std::int64_t last = 0;
  std::int64_t of = 0;
  const ReplayOptions options{.policies = all_replay_policies(trace),
                              .num_workers = 4,
                              .progress = [&](std::int64_t done, std::int64_t total) {
                                EXPECT_EQ(done, last + 1);
                                last = done;
                                of = total;
                              }};
  static_cast<void>(replay(trace, scenarios, options));
  EXPECT_EQ(last, of);
  EXPECT_GT(of, 2 * 6 * 8);
}

}  // namespace
}  // namespace flex
