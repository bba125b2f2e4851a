#include <gtest/gtest.h>

#include <stdexcept>

#include "profiler/cupti_source.h"
#include "runtime/operation_range_name.h"
#include "runtime/span_recorder.h"
#include "tests/profiler/fake_cupti.h"
#include "tests/support/count_allocations.h"

namespace flex {
namespace {

using testing::FakeCupti;

Operation operation(OperationKind kind, StreamKind stream) { return {.kind = kind, .stream = stream}; }

// Three operations: on the host, of two kernels, and of none.
Schedule small_schedule() {
  Schedule schedule;
  schedule.plan.all_to_all = AllToAllAlgorithm::kHierarchical2d;
  schedule.operations = {operation(OperationKind::kAgreeTokens, StreamKind::kHost),
                         operation(OperationKind::kGate, StreamKind::kCompute),
                         operation(OperationKind::kRailAllToAll, StreamKind::kCommunication)};
  schedule.operations[2].direction = Direction::kDispatch;
  schedule.operations[2].num_chunks = 4;
  return schedule;
}

class FakeKernels final : public OperationRunner {
 public:
  explicit FakeKernels(FakeCupti& fake) : fake_(fake) {}
  void run(const Operation& operation, Stream& /*stream*/) override {
    if (operation.kind != OperationKind::kGate) return;
    if (throws) throw std::runtime_error("no memory");
    fake_.launch({{.name = "gemm"}, {.name = "bias"}});
  }

  bool throws = false;

 private:
  FakeCupti& fake_;
};

class CuptiRecorder : public ::testing::Test {
 protected:
  FakeCupti fake_;
  SpanRecorder recorder_{
      make_cupti_source(FakeCupti::api(), {.sentinel = [this] { fake_.launch({{}}); }}, Device::cpu(), 3, 1),
      3};
  Executor executor_{Device::cpu()};
  Stream stream_{Device::cpu()};
  FakeKernels kernels_{fake_};
};

TEST_F(CuptiRecorder, JoinsKernelsWithTheOperationsOfTheSchedule) {
  const Schedule schedule = small_schedule();
  executor_.set_observer(&recorder_);
  recorder_.set_place(40, 5);
  recorder_.start_blocking(stream_);
  executor_.run(schedule, stream_, kernels_);
  executor_.run(schedule, stream_, kernels_);
  stream_.synchronize_blocking();
  const std::vector<Span> spans = recorder_.spans(0);
  ASSERT_EQ(spans.size(), 4U) << "the exchange left no record";
  for (std::size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].iteration, 40);
    EXPECT_EQ(spans[i].layer, 5);
    EXPECT_EQ(spans[i].pass, static_cast<std::int32_t>(i / 2));
    EXPECT_EQ(spans[i].operation, static_cast<std::int32_t>(i % 2));
    EXPECT_EQ(spans[i].origin, i % 2 == 0 ? "host_clock" : "cupti");
  }
  EXPECT_EQ(spans[1].end_ns - spans[1].begin_ns, 2000);
  const std::vector<Span> details = recorder_.details(spans[1].begin_ns, "gpu");
  ASSERT_EQ(details.size(), 4U);
  EXPECT_EQ(details[0].name, "gemm");
  EXPECT_EQ(details[0].begin_ns, 0);
  EXPECT_EQ(details[0].process_group, "gpu");
  EXPECT_EQ(details[0].rank, 3);
  EXPECT_EQ(recorder_.remarks(), "");
}

// What stays on for a whole run: passes are told apart within their iteration.
TEST_F(CuptiRecorder, CountsPassesWithinAnIteration) {
  constexpr int kIterations = 2 * kMaxWorkId.pass;
  executor_.set_observer(&recorder_);
  recorder_.start_blocking(stream_);
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    recorder_.set_place(iteration, 0);
    executor_.run(small_schedule(), stream_, kernels_);
    executor_.run(small_schedule(), stream_, kernels_);
  }
  stream_.synchronize_blocking();
  const std::vector<Span> spans = recorder_.spans(0);
  ASSERT_EQ(spans.size(), 4 * static_cast<std::size_t>(kIterations));
  for (std::size_t i = 0; i < spans.size(); ++i) {
    ASSERT_EQ(spans[i].iteration, static_cast<std::int64_t>(i / 4));
    ASSERT_EQ(spans[i].pass, static_cast<std::int32_t>(i / 2 % 2));
  }
}

// Every second iteration is recorded, and taken when it is there; operations meet the records of their own.
TEST_F(CuptiRecorder, StoppedRecordingsKeepTheirOperations) {
  const Schedule schedule = small_schedule();
  executor_.set_observer(&recorder_);
  std::vector<SpanRecording> taken;
  constexpr Sampling kSampling{.every = 2};
  for (std::int64_t iteration = 0; iteration < 6; ++iteration) {
    recorder_.set_place(iteration, 2);
    if (kSampling.takes(iteration)) recorder_.start_blocking(stream_);
    executor_.run(schedule, stream_, kernels_);
    if (kSampling.takes(iteration)) recorder_.stop(stream_);
    while (auto recording = recorder_.take_stopped()) taken.push_back(std::move(*recording));
  }
  while (auto recording = recorder_.take_stopped_blocking()) taken.push_back(std::move(*recording));
  ASSERT_EQ(taken.size(), 3U);
  for (std::size_t i = 0; i < taken.size(); ++i) {
    ASSERT_EQ(taken[i].operations.size(), schedule.operations.size());
    for (const RecordedOperation& operation : taken[i].operations) {
      EXPECT_EQ(operation.iteration, static_cast<std::int64_t>(2 * i));
    }
    EXPECT_EQ(taken[i].operations[1].end_ns - taken[i].operations[1].begin_ns, 2000);
    EXPECT_EQ(taken[i].operations[2].end_ns, MarkSource::kNotReached) << "the exchange left no record";
    ASSERT_EQ(taken[i].details.size(), 2U);
    EXPECT_EQ(taken[i].details[0].iteration, static_cast<std::int64_t>(2 * i));
  }
  recorder_.stop(stream_);  // of nothing
  EXPECT_FALSE(recorder_.take_stopped_blocking().has_value());
  EXPECT_EQ(recorder_.remarks(), "");
}

TEST_F(CuptiRecorder, GoesOnAfterAnOperationThrew) {
  executor_.set_observer(&recorder_);
  recorder_.start_blocking(stream_);
  kernels_.throws = true;
  EXPECT_THROW(executor_.run(small_schedule(), stream_, kernels_), std::runtime_error);
  kernels_.throws = false;
  recorder_.start_blocking(stream_);
  executor_.run(small_schedule(), stream_, kernels_);
  stream_.synchronize_blocking();
  EXPECT_EQ(recorder_.recorded().size(), 2U);
}

TEST(OperationRangeNames, AreTheLabelsInTheirLayer) {
  const Schedule schedule = small_schedule();
  const auto text = [&](std::size_t index, std::int32_t layer) {
    return std::string(operation_range_name(schedule.operations[index], schedule.plan, layer).view());
  };
  EXPECT_EQ(text(2, 3), "moe/L03/dispatch/rail_all_to_all#1of4[2dh]");
  EXPECT_EQ(text(1, 3), "moe/L03/gate");
  EXPECT_EQ(text(0, -1), "moe/agree_tokens");
}

TEST(OperationRangeNames, AllocateNothing) {
  const Schedule schedule = small_schedule();
  const std::int64_t allocations = testing::num_allocations();
  for (const Operation& operation : schedule.operations) {
    ASSERT_FALSE(operation_range_name(operation, schedule.plan, 1).view().empty());
  }
  EXPECT_EQ(testing::num_allocations(), allocations);
}

}  // namespace
}  // namespace flex
