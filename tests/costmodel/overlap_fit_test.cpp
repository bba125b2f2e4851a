#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "costmodel/calibration.h"
#include "costmodel/cluster_description.h"
#include "tests/base/expect_error.h"

namespace flex {
namespace {

constexpr std::int64_t kNsPerUs = 1000;

CostSample sample(OperationKind kind, std::int64_t bytes, std::int64_t us, Beside beside = Beside::kNothing,
                  std::int64_t beside_us = 0) {
  return {.kind = kind,
          .peers = kind == OperationKind::kAllToAll ? 2 : 0,
          .bytes_per_peer = kind == OperationKind::kAllToAll ? bytes / 2 : 0,
          .bytes = bytes,
          .world = 2,
          .ranks_per_node = 2,
          .beside = beside,
          .duration_ns = us * kNsPerUs,
          .beside_ns = beside_us * kNsPerUs};
}

OverlapSlowdown fit(const std::vector<CostSample>& samples) {
  const Cluster cluster = load_cluster("cpu_host");
  return calibrate(cluster, samples, default_calibration(cluster).parameters).parameters.linear;
}

// Alone 100 us. Beside compute for 100 of 150 us: what was left after the other 50, 50 us of work, took 100.
TEST(OverlapFit, CountsThePartThatWasBesideTheOtherStream) {
  const std::vector<CostSample> samples = {
      sample(OperationKind::kAllToAll, 1 << 20, 100),
      sample(OperationKind::kAllToAll, 1 << 20, 150, Beside::kCompute, 100),
      sample(OperationKind::kEncode, 1 << 20, 80),
      sample(OperationKind::kEncode, 1 << 20, 120, Beside::kCommunication)};  // all of it
  EXPECT_NEAR(fit(samples).communication, 2, 1e-9);
  EXPECT_NEAR(fit(samples).compute, 1.5, 1e-9);
}

// The first is three times as long and the second not at all: (300 + 900) / (100 + 900).
TEST(OverlapFit, WeighsByTime) {
  const std::vector<CostSample> samples = {sample(OperationKind::kAllToAll, 1 << 20, 100),
                                           sample(OperationKind::kAllToAll, 1 << 24, 900),
                                           sample(OperationKind::kAllToAll, 1 << 20, 300, Beside::kCompute),
                                           sample(OperationKind::kAllToAll, 1 << 24, 900, Beside::kCompute)};
  EXPECT_NEAR(fit(samples).communication, 1.2, 1e-9);
}

TEST(OverlapFit, FindsNoSpeedUpAndNothingEndless) {
  std::vector<CostSample> samples = {sample(OperationKind::kAllToAll, 1 << 20, 100),
                                     sample(OperationKind::kAllToAll, 1 << 20, 60, Beside::kCompute)};
  EXPECT_EQ(fit(samples).communication, 1);
  // Even the part alone was longer than the whole should be.
  samples[1] = sample(OperationKind::kAllToAll, 1 << 20, 300, Beside::kCompute, 150);
  EXPECT_EQ(fit(samples).communication, 100);
}

// 50 us of work took 100. Another was held up for 400 us with nothing beside it: its 100 us beside the other
// stream did none of the work, but take nothing from what others did: (100 + 100) / 50.
TEST(OverlapFit, AnOutlierUndoesNoWork) {
  const std::vector<CostSample> samples = {
      sample(OperationKind::kAllToAll, 1 << 20, 100),
      sample(OperationKind::kAllToAll, 1 << 20, 150, Beside::kCompute, 100),
      sample(OperationKind::kAllToAll, 1 << 20, 500, Beside::kCompute, 100)};
  EXPECT_NEAR(fit(samples).communication, 4, 1e-9);
}

TEST(OverlapFit, SamplesKeepHowLongTheyWereBesideIt) {
  const std::vector<CostSample> samples = {
      sample(OperationKind::kAllToAll, 1 << 20, 150, Beside::kCompute, 100)};
  EXPECT_EQ(parse_cost_samples(to_json_line(samples[0]), "s.jsonl"), samples);
  const std::string too_long =
      R"({"op":"encode","dtype":"fp32","duration_ns":5,"beside":"communication","beside_ns":6,"device":"","source":""})";
  EXPECT_EQ(message_of<InputError>([&] { static_cast<void>(parse_cost_samples(too_long, "s.jsonl")); }),
            "s.jsonl:1: beside_ns: is 6; it is at most duration_ns, and needs `beside`");
}

}  // namespace
}  // namespace flex
