#include "runtime/pass_record.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace flex {
namespace {

constexpr std::int64_t kNsPerUs = 1000;

/// Builds a record by hand; times are microseconds, by rank. 0 is no time: a record's are far from it.
class Record {
 public:
  explicit Record(int world, int ranks_per_device = 1) {
    record_.world = world;
    record_.ranks_per_device = ranks_per_device;
  }

  struct Times {
    std::int64_t begin_us, end_us;
  };
  Record& add(OperationKind kind, StreamKind stream, std::initializer_list<Times> times,
              std::initializer_list<std::int16_t> waits = {}, std::int32_t pass = 0) {
    Operation operation{.kind = kind, .stream = stream};
    operation.size.peers = record_.world;
    for (const std::int16_t wait : waits)
      operation.waits[static_cast<std::size_t>(operation.num_waits++)] = wait;
    record_.operations.push_back({.operation = operation, .pass = pass});
    columns_.emplace_back(times);
    return *this;
  }

  [[nodiscard]] std::vector<OperationDuration> durations() {
    for (int rank = 0; rank < record_.world; ++rank) {
      for (const std::vector<Times>& column : columns_) {
        const Times& times = column[static_cast<std::size_t>(rank)];
        record_.times.push_back({times.begin_us * kNsPerUs, times.end_us * kNsPerUs});
      }
    }
    return durations_of(record_);
  }

 private:
  PassRecord record_;
  std::vector<std::vector<Times>> columns_;
};

using enum OperationKind;
constexpr StreamKind kHost = StreamKind::kHost;
constexpr StreamKind kCompute = StreamKind::kCompute;
constexpr StreamKind kCommunication = StreamKind::kCommunication;

// The second begins 3 us after its stream has come to it: that belongs to it.
TEST(DurationsOf, CountFromWhenAnOperationIsReady) {
  const auto durations =
      Record(1).add(kGate, kCompute, {{100, 110}}).add(kRoute, kCompute, {{113, 120}}).durations();
  EXPECT_DOUBLE_EQ(durations[0].us, 10);
  EXPECT_DOUBLE_EQ(durations[1].us, 10);
}

// Compute reaches the rows at 110, but what they wait for ends at 150.
TEST(DurationsOf, DoNotCountWaitsForTheOtherStream) {
  const auto durations = Record(1)
                             .add(kEncode, kCompute, {{100, 110}})
                             .add(kNodeCopy, kCommunication, {{112, 150}}, {0})
                             .add(kRowsToExperts, kCompute, {{151, 160}}, {1})
                             .durations();
  EXPECT_DOUBLE_EQ(durations[1].us, 40);
  EXPECT_DOUBLE_EQ(durations[2].us, 10);
  EXPECT_DOUBLE_EQ(durations[1].overlap_us, 0);
  EXPECT_DOUBLE_EQ(durations[2].overlap_us, 0);
}

// Rank 1 comes at 140; rank 0 waits for it from 110 on. It lasts until the later of both ends.
TEST(DurationsOf, OfCollectivesCountFromTheLastArrival) {
  const auto durations = Record(2)
                             .add(kEncode, kCompute, {{100, 110}, {100, 140}})
                             .add(kAllToAll, kCommunication, {{111, 165}, {142, 170}}, {0})
                             .durations();
  EXPECT_DOUBLE_EQ(durations[0].us, 25);  // the mean of 10 and 40
  EXPECT_DOUBLE_EQ(durations[1].us, 30);
}

// The exchange works from 140 to 170 on both ranks. Rank 0 computes in 110..150, rank 1 in 145..160.
TEST(DurationsOf, OverlapIsWorkOnBothStreams) {
  const auto durations = Record(2)
                             .add(kEncode, kCompute, {{100, 110}, {100, 140}})
                             .add(kAllToAll, kCommunication, {{110, 170}, {140, 170}}, {0})
                             .add(kExpertFfn, kCompute, {{110, 150}, {145, 160}})
                             .durations();
  // Rank 1's product is ready at 140: 10 us and 20 us of the products lie in the exchange, and 20 us of the
  // exchange in any of them.
  EXPECT_DOUBLE_EQ(durations[2].us, 30);
  EXPECT_DOUBLE_EQ(durations[2].overlap_us, 15);
  EXPECT_DOUBLE_EQ(durations[1].us, 30);
  EXPECT_DOUBLE_EQ(durations[1].overlap_us, 20);
  EXPECT_DOUBLE_EQ(durations[0].overlap_us, 0);
}

// Both ranks have two products of equal work, 10 us each, on one device. Rank 0's second runs before rank 1's
// first: whose kernels come first must not change what a product takes, 20 us for both ranks.
TEST(DurationsOf, OfRanksOnOneDeviceDoNotDependOnWhoIsFirst) {
  using Times = std::initializer_list<Record::Times>;
  const auto durations = [](Times first, Times second) {
    return Record(2, 2)
        .add(kExpertFfnBackwardFc2, kCompute, first)
        .add(kExpertFfnBackwardFc1, kCompute, second)
        .durations();
  };
  for (const auto& found : {durations({{100, 110}, {110, 120}}, {{120, 130}, {130, 140}}),
                            durations({{100, 110}, {120, 130}}, {{110, 120}, {130, 140}}),
                            durations({{100, 120}, {100, 120}}, {{120, 140}, {120, 140}})}) {
    EXPECT_DOUBLE_EQ(found[0].us, 20);
    EXPECT_DOUBLE_EQ(found[1].us, 20);
  }
}

// Two devices of two ranks: 20 us on the first, 30 us on the second.
TEST(DurationsOf, AreTheMeanOverDevices) {
  const auto durations =
      Record(4, 2).add(kGate, kCompute, {{100, 110}, {110, 120}, {100, 115}, {115, 130}}).durations();
  EXPECT_DOUBLE_EQ(durations[0].us, 25);
}

// The device is rank 0's in 110..130 and rank 1's in 130..150; the exchange runs in 110..130.
TEST(DurationsOf, OverlapOfASharedDeviceIsInProportion) {
  const auto durations = Record(2, 2)
                             .add(kEncode, kCompute, {{100, 110}, {100, 110}})
                             .add(kAllToAll, kCommunication, {{110, 130}, {110, 130}}, {0})
                             .add(kExpertFfn, kCompute, {{110, 130}, {130, 150}})
                             .durations();
  EXPECT_DOUBLE_EQ(durations[0].us, 10);
  EXPECT_DOUBLE_EQ(durations[2].us, 40);
  // All of rank 0's 20 us, and of rank 1's, which was ready at 110, 20 of 40.
  EXPECT_DOUBLE_EQ(durations[2].overlap_us, 30);
}

// The communication of a pass starts after the compute before it, and compute goes on after its
// communication.
TEST(DurationsOf, PassesFollowEachOther) {
  const auto durations = Record(1)
                             .add(kGate, kCompute, {{100, 110}})
                             .add(kReduceGateLoss, kCommunication, {{110, 130}}, {0})
                             .add(kGatherWeights, kCommunication, {{131, 140}}, {}, 1)
                             .add(kEncode, kCompute, {{131, 150}}, {}, 1)
                             .durations();
  EXPECT_DOUBLE_EQ(durations[2].us, 10);
  EXPECT_DOUBLE_EQ(durations[3].us, 20);
}

TEST(DurationsOf, NothingIsReadyBeforeTheHostHasIssuedIt) {
  const auto durations = Record(1)
                             .add(kGate, kCompute, {{100, 110}})
                             .add(kAgreeCapacity, kHost, {{112, 150}}, {0})
                             .add(kEncode, kCompute, {{155, 160}}, {}, 1)
                             .durations();
  EXPECT_DOUBLE_EQ(durations[1].us, 40);
  EXPECT_DOUBLE_EQ(durations[2].us, 10);
}

}  // namespace
}  // namespace flex
