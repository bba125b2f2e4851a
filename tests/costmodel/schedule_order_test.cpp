#include <gtest/gtest.h>

#include <bitset>
#include <map>
#include <optional>

#include "costmodel/build_schedule.h"
#include "tests/costmodel/cases.h"

/// What is done before what, in every schedule of every plan in the grid of cases.
namespace flex::testing {
namespace {

using enum OperationKind;

// Where an operation stands on the way of one chunk's data; nothing for what is beside it.
std::optional<int> stage_of(const Operation& operation) {
  const bool combine = operation.direction == Direction::kCombine;
  constexpr int kCombineStages = 7;
  switch (operation.kind) {
    case kEncode:
    case kDecodeBackward:
      return 0;
    case kNodeCopy:
      return 1 + (combine ? kCombineStages : 0);
    case kNodeAllToAll:
      return 2 + (combine ? kCombineStages : 0);
    case kRailCopy:
      return 3 + (combine ? kCombineStages : 0);
    case kAllToAll:
    case kRailAllToAll:
      return 4 + (combine ? kCombineStages : 0);
    case kRowsToExperts:
      return 5;
    case kExpertFfn:
    case kExpertFfnBackwardData:
      return 6;
    case kRowsFromExperts:
      return 7;
    case kSumCopies:
      return 12;
    case kDecode:
    case kEncodeBackward:
      return 13;
    default:
      return std::nullopt;
  }
}

/// Which operations are done before which, by streams and waits.
class Order {
 public:
  explicit Order(const Schedule& schedule) : before_(schedule.operations.size()) {
    std::map<StreamKind, std::size_t> last;
    for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
      const Operation& operation = schedule.operations[i];
      const auto follow = [&](std::size_t earlier) {
        before_[i] |= before_[earlier];
        before_[i].set(earlier);
      };
      // What the host does in place holds up all that is issued later.
      if (last.contains(StreamKind::kHost)) follow(last[StreamKind::kHost]);
      if (last.contains(operation.stream)) follow(last[operation.stream]);
      for (const std::int16_t wait : operation.waits_for()) follow(static_cast<std::size_t>(wait));
      last[operation.stream] = i;
    }
  }
  [[nodiscard]] bool holds(std::size_t first, std::size_t second) const {
    return before_[second].test(first);
  }

 private:
  static constexpr std::size_t kMaxOperations = 128;
  std::vector<std::bitset<kMaxOperations>> before_;
};

TEST(ScheduleOrder, EveryChunkPassesItsStagesInOrder) {
  for_all_schedules(Part::kExpert, [](const Case&, const Schedule& schedule) {
    const Order order(schedule);
    const std::vector<Operation>& operations = schedule.operations;
    for (std::size_t i = 0; i < operations.size(); ++i) {
      for (std::size_t j = 0; j < operations.size(); ++j) {
        const auto first = stage_of(operations[i]);
        const auto second = stage_of(operations[j]);
        const bool whole = operations[i].num_chunks == 1 || operations[j].num_chunks == 1;
        if (!first || !second || *first >= *second) continue;
        if (!whole && operations[i].chunk != operations[j].chunk) continue;
        EXPECT_TRUE(order.holds(i, j)) << label(operations[i]) << " before " << label(operations[j]);
      }
    }
  });
}

// Producer and consumer of what is not on the way of the tokens. Where a schedule has both, each of the first
// must be done before each of the second.
TEST(ScheduleOrder, WeightsGradientsAndLossesComeBeforeTheirUse) {
  const std::vector<std::pair<OperationKind, OperationKind>> needs = {
      {kAgreeTokens, kGate},
      {kGate, kGateNoise},
      {kGateNoise, kRoute},
      {kGate, kRoute},
      {kRoute, kGateLossSums},
      {kGateLossSums, kReduceGateLoss},
      {kReduceGateLoss, kGateLossValue},
      {kGateLossSums, kGateLossValue},
      {kRoute, kAgreeCapacity},
      {kGatherWeights, kExpertFfn},
      {kGatherWeights, kExpertFfnBackwardData},
      {kExpertFfnBackwardData, kExpertFfnBackwardFc1},
      {kRowsToExperts, kExpertFfnBackwardFc1},
      {kRowsToExperts, kExpertFfnBackwardFc2},
      {kExpertFfnBackwardFc1, kScatterGradients},
      {kExpertFfnBackwardFc2, kScatterGradients},
      {kDecodeBackward, kGateBackward},
      {kGateBackward, kReduceGateGradients}};
  for (const Part part : {Part::kRoute, Part::kExpert}) {
    for_all_schedules(part, [&needs](const Case&, const Schedule& schedule) {
      const Order order(schedule);
      for (const auto& [producer, consumer] : needs) {
        for (std::size_t j = 0; j < schedule.operations.size(); ++j) {
          if (schedule.operations[j].kind != consumer) continue;
          for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
            if (schedule.operations[i].kind != producer) continue;
            EXPECT_TRUE(order.holds(i, j)) << name(producer) << " before " << name(consumer);
          }
        }
      }
    });
  }
}

}  // namespace
}  // namespace flex::testing
