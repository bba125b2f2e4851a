#include "runtime/wait_graph.h"

#include <gtest/gtest.h>

namespace flex {
namespace {

using std::chrono::milliseconds;

TEST(WaitGraph, NamesTheMissingRanksOfTheOwnWait) {
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {2, 3}, .not_called = {}}};
  EXPECT_EQ(explain_wait(waits, 0, milliseconds(500)), "a: ranks 2, 3 did not arrive within 500 ms");
}

TEST(WaitGraph, SparesRanksThatWaitInTheSamePlace) {
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {2}, .not_called = {}},
                                       {.rank = 1, .place = "a", .missing = {2}, .not_called = {}}};
  EXPECT_EQ(explain_wait(waits, 1, milliseconds(500)), "a: rank 2 did not arrive within 500 ms");
}

TEST(WaitGraph, FollowsInnocentWaitersToTheAbsentRank) {
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {1}, .not_called = {}},
                                       {.rank = 1, .place = "b", .missing = {2}, .not_called = {}},
                                       {.rank = 2, .place = "c", .missing = {5}, .not_called = {}},
                                       {.rank = 7, .place = "d", .missing = {8}, .not_called = {}}};
  EXPECT_EQ(explain_wait(waits, 0, milliseconds(50)), "c: rank 5 did not arrive (rank 0 waited 50 ms in a)");
}

TEST(WaitGraph, FollowsEveryWaitOfARankWithSeveralStreams) {
  // Rank 1 waits for rank 0 on one stream; what it is really held up by is rank 3.
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {1}, .not_called = {}},
                                       {.rank = 1, .place = "b", .missing = {0}, .not_called = {}},
                                       {.rank = 1, .place = "c", .missing = {3}, .not_called = {}}};
  EXPECT_EQ(explain_wait(waits, 0, milliseconds(50)), "c: rank 3 did not arrive (rank 0 waited 50 ms in a)");
}

TEST(WaitGraph, BlamesTheRankThatDidNotCallInACircle) {
  // Rank 1's call of `a` is queued behind `b`; rank 0 has not called `b` at all.
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {1}, .not_called = {}},
                                       {.rank = 1, .place = "b", .missing = {0}, .not_called = {0}}};
  EXPECT_EQ(explain_wait(waits, 0, milliseconds(50)), "b: rank 0 did not arrive (rank 0 waited 50 ms in a)");
  EXPECT_EQ(explain_wait(waits, 1, milliseconds(50)), "b: rank 0 did not arrive within 50 ms");
}

TEST(WaitGraph, ShowsTheWholeCircleWhereAllAreAlike) {
  const std::vector<PeerWait> waits = {{.rank = 0, .place = "a", .missing = {1}, .not_called = {1}},
                                       {.rank = 1, .place = "b", .missing = {0}, .not_called = {0}}};
  EXPECT_EQ(
      explain_wait(waits, 0, milliseconds(50)),
      "after 50 ms ranks wait for each other: rank 0 waits for rank 1 in a; rank 1 waits for rank 0 in b");
}

}  // namespace
}  // namespace flex
