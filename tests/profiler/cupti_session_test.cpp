#include "profiler/cupti_session.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "base/error.h"
#include "profiler/mark_source.h"
#include "tests/base/expect_error.h"
#include "tests/profiler/fake_cupti.h"

namespace flex {
namespace {

using namespace std::chrono_literals;
using testing::FakeCupti;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CuptiSessions : public ::testing::Test {
 protected:
  std::shared_ptr<CuptiSession> join() {
    auto joined = CuptiSession::join_blocking(FakeCupti::api(), settings_);
    if (const auto* const reason = std::get_if<std::string>(&joined)) throw std::runtime_error(*reason);
    return std::get<std::shared_ptr<CuptiSession>>(joined);
  }
  std::string reason() {
    return std::get<std::string>(CuptiSession::join_blocking(FakeCupti::api(), settings_));
  }
  // One kernel for `id`, recorded and collected.
  static std::vector<CuptiActivity> record(CuptiSession& session, FakeCupti& fake, const WorkId& id) {
    session.start_recording_blocking();
    session.push(id);
    fake.launch({{.name = "gemm"}});
    session.pop();
    session.collect_blocking();
    return session.take(id.local_rank);
  }

  FakeCupti fake_;
  CuptiSettings settings_{.sentinel = [this] { fake_.launch({{.name = "sentinel"}}); },
                          .sentinel_timeout = 60s,
                          .collect_timeout = 60s,
                          .flush_timeout = 60s,
                          .quiet_timeout = 60s};
};

TEST_F(CuptiSessions, RecordOnTheHostsClock) {
  const auto session = join();
  EXPECT_THAT(fake_.enabled(), IsEmpty()) << "records are off until one records";
  session->start_recording_blocking();
  session->push({.operation = 5});
  const std::int64_t launched_ns = fake_.launch({{.name = "gemm"}, {.name = "add"}});
  session->pop();
  EXPECT_EQ(fake_.enabled(), (std::set<std::uint32_t>{1, 2, 4, 5, 10, 17, 39}));
  session->collect_blocking();
  EXPECT_THAT(fake_.enabled(), IsEmpty());
  const std::vector<CuptiActivity> taken = session->take(0);
  ASSERT_EQ(taken.size(), 2U);
  EXPECT_EQ(taken[0].name, "gemm");
  EXPECT_EQ(taken[1].name, "add");
  EXPECT_EQ(taken[1].work.operation, 5);
  EXPECT_EQ(taken[1].begin_ns - taken[0].begin_ns, 1000);
  EXPECT_LE(std::abs(taken[0].begin_ns - launched_ns), session->clock_error_ns());
  EXPECT_FALSE(fake_.ever_enabled().contains(3)) << "KERNEL makes kernels run one after the other";
}

TEST_F(CuptiSessions, AreOneForTheProcess) {
  auto first = join();
  auto second = join();
  EXPECT_EQ(first, second);
  first.reset();
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 0);
  second.reset();
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 1);
  EXPECT_FALSE(fake_.is_subscribed());
  EXPECT_EQ(record(*join(), fake_, {.operation = 1}).size(), 1U) << "and start anew";
}

TEST_F(CuptiSessions, SayWhoHoldsCupti) {
  fake_.fail("cuptiSubscribe", cupti::kMultipleSubscribersNotSupported);
  EXPECT_EQ(reason(),
            "another tool holds CUPTI (cuptiSubscribe: CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED); "
            "one profiler can run at a time");
  EXPECT_EQ(fake_.num_calls("cuptiUnsubscribe"), 0);
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 0) << "that would take CUPTI from the other tool";
  EXPECT_THAT(fake_.ever_enabled(), IsEmpty());
  fake_.succeed();
  EXPECT_NE(join(), nullptr);
}

TEST_F(CuptiSessions, LeaveCuptiAsItWasWhenACallOfTheStartFails) {
  for (const char* call :
       {"cuptiGetVersion", "cuptiSubscribe", "cuptiEnableCallback", "cuptiActivityRegisterCallbacks",
        "cuptiGetTimestamp", "cuptiActivityEnable", "cuptiActivityPushExternalCorrelationId",
        "cuptiActivityPopExternalCorrelationId", "cuptiActivityFlushAll", "cuptiActivityDisable"}) {
    SCOPED_TRACE(call);
    fake_.fail(call);
    if (std::string_view(call) == "cuptiActivityDisable") {
      EXPECT_EQ(reason(), "CUPTI did not switch its records off");
    } else {
      EXPECT_THAT(reason(), HasSubstr(std::string(call) + ": CUPTI_ERROR_UNKNOWN"));
    }
    EXPECT_FALSE(fake_.is_subscribed());
    EXPECT_THAT(fake_.enabled(), IsEmpty());
    fake_.succeed();
    EXPECT_EQ(record(*join(), fake_, {.operation = 1}).size(), 1U) << "and the next start works";
  }
}

TEST_F(CuptiSessions, AKindThatCannotBeRecordedIsNamed) {
  fake_.fail("cuptiActivityEnable", 999, 2);
  EXPECT_EQ(reason(), "cuptiActivityEnable: CUPTI_ERROR_UNKNOWN for records of kind 2");
  EXPECT_THAT(fake_.enabled(), IsEmpty());
}

TEST_F(CuptiSessions, RefuseAnUnknownInterface) {
  for (const std::uint32_t version : {17U, 140000U}) {
    fake_.version = version;
    EXPECT_EQ(reason(), fmt::format("CUPTI's interface has the version {}; 18 to 139999 are known", version));
  }
}

TEST_F(CuptiSessions, NoticeThatNoRecordArrives) {
  settings_.sentinel_timeout = 10ms;
  fake_.records_kernels = false;
  EXPECT_EQ(reason(), "CUPTI took every call, but sent no record of a kernel within 10 ms (0 activities)");
  fake_.records_kernels = true;
  fake_.delivery = FakeCupti::Delivery::kNever;
  settings_.quiet_timeout = 10ms;
  EXPECT_THAT(reason(), HasSubstr("sent no record of a kernel within 10 ms"));
}

TEST_F(CuptiSessions, PassOnThatTheSentinelFailed) {
  settings_.sentinel = [] { throw DeviceError("no kernel image"); };
  EXPECT_EQ(reason(), "no kernel image");
  EXPECT_EQ(fake_.num_calls("cuptiActivityPopExternalCorrelationId"), 1);
}

TEST_F(CuptiSessions, WaitForARecordThatComesAfterTheFlush) {
  fake_.delivery = FakeCupti::Delivery::kAfterFlush;
  fake_.records_per_buffer = 100;
  const auto session = join();
  EXPECT_EQ(record(*session, fake_, {.operation = 1}).size(), 1U);
}

TEST_F(CuptiSessions, CountWhatIsLostBrokenOrUnknown) {
  const auto session = join();
  fake_.drop(7);
  fake_.add_record(testing::forge_bare(testing::kUnknownKind));
  fake_.add_record(testing::forge_kernel({.start = 0, .end = 0}));
  fake_.deliver_broken_buffer();
  static_cast<void>(record(*session, fake_, {.operation = 1}));
  const CuptiCounts counts = session->counts();
  EXPECT_EQ(counts.lost, 7);
  EXPECT_EQ(counts.unknown, 1);
  EXPECT_EQ(counts.without_times, 1);
  EXPECT_EQ(counts.too_short, 1);
  EXPECT_EQ(counts.activities, 2) << "the whole record before the broken one, and the recorded one";
}

TEST_F(CuptiSessions, FailWithCuptisReasonWhileTheyRun) {
  const auto session = join();
  fake_.fail("cuptiActivityEnable", 999, 3);
  EXPECT_EQ(message_of<DeviceError>([&] { session->start_recording_blocking(); }),
            "cuptiActivityEnable: CUPTI_ERROR_UNKNOWN for records of kind 39");
  EXPECT_THAT(fake_.enabled(), IsEmpty());
  fake_.succeed();
  fake_.fail("cuptiActivityPushExternalCorrelationId");
  EXPECT_EQ(message_of<DeviceError>([&] { session->push({}); }),
            "cuptiActivityPushExternalCorrelationId: CUPTI_ERROR_UNKNOWN");
  fake_.succeed();
  session->start_recording_blocking();
  fake_.fail("cuptiActivityFlushAll");
  EXPECT_EQ(message_of<DeviceError>([&] { session->collect_blocking(); }),
            "cuptiActivityFlushAll: CUPTI_ERROR_UNKNOWN");
  EXPECT_THAT(fake_.enabled(), IsEmpty()) << "records go off all the same";
  fake_.succeed();
  EXPECT_EQ(record(*session, fake_, {.operation = 1}).size(), 1U);
}

TEST_F(CuptiSessions, AreFinalizedOnlyWhenQuiet) {
  settings_.quiet_timeout = 1ms;
  auto session = join();
  fake_.delivery = FakeCupti::Delivery::kNever;  // from now on CUPTI keeps a buffer with records
  fake_.add_record(testing::forge_bare(testing::kUnknownKind));
  ::testing::internal::CaptureStderr();
  session.reset();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("it stays attached to this process"));
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), 0);
  EXPECT_FALSE(fake_.is_subscribed());
  EXPECT_GT(fake_.num_held_buffers(), 0U);
}

TEST_F(CuptiSessions, LogWhatFailsAtTheEnd) {
  for (const char* call : {"cuptiActivityFlushAll", "cuptiUnsubscribe", "cuptiFinalize"}) {
    auto session = join();
    fake_.fail(call);
    const int num_finalized = fake_.num_calls("cuptiFinalize");
    ::testing::internal::CaptureStderr();
    session.reset();
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                HasSubstr(std::string(call) + ": CUPTI_ERROR_UNKNOWN"));
    EXPECT_EQ(fake_.num_calls("cuptiFinalize") - num_finalized,
              std::string_view(call) == "cuptiFinalize" ? 1 : 0);
    fake_.succeed();
  }
}

TEST_F(CuptiSessions, KnowGraphNodesByWhatTheyWereCapturedFor) {
  const auto session = join();
  for (const std::uint64_t operation : {1, 2}) {  // captured while nothing records
    session->push({.iteration = 1, .layer = 4, .pass = 1, .operation = static_cast<std::int32_t>(operation)});
    fake_.create_node(10 + operation);
    session->pop();
  }
  fake_.create_node(13);  // for nothing
  for (const std::uint64_t node : {11, 12, 13}) fake_.clone_node(100 + node, node);
  const auto replay = [&](std::int64_t iteration) {
    session->start_recording_blocking();
    session->push({.iteration = iteration, .layer = 4});
    fake_.launch({{.graph_node = 111}, {.graph_node = 112}, {.graph_node = 113}});
    session->pop();
    session->collect_blocking();
    std::vector<std::int32_t> operations;
    for (const CuptiActivity& activity : session->take(0)) {
      EXPECT_EQ(activity.work.iteration, iteration);
      operations.push_back(activity.work.operation);
    }
    return operations;
  };
  EXPECT_THAT(replay(7), ::testing::ElementsAre(1, 2, -1));
  fake_.destroy_node(112);
  EXPECT_THAT(replay(8), ::testing::ElementsAre(1, 2, -1)) << "what ran before it went keeps its name";
  EXPECT_THAT(replay(9), ::testing::ElementsAre(1, -1, -1));
}

// One that keeps a buffer is not waited for twice.
TEST_F(CuptiSessions, GetOnWithoutABufferThatStaysAway) {
  settings_.flush_timeout = 1ms;
  settings_.quiet_timeout = 1ms;
  const auto session = join();
  fake_.delivery = FakeCupti::Delivery::kNever;
  EXPECT_TRUE(record(*session, fake_, {.operation = 1}).empty());
  fake_.delivery = FakeCupti::Delivery::kInFlush;
  EXPECT_EQ(record(*session, fake_, {.operation = 2}).size(), 1U);
  EXPECT_GT(fake_.num_held_buffers(), 0U);
}

// Ranks record side by side and collect together; each takes its own, whatever the order of delivery.
TEST_F(CuptiSessions, AreSharedByTheRanksOfAProcess) {
  constexpr int kRanks = 4;
  constexpr int kRounds = 8;
  constexpr int kOperations = 5;
  std::vector<std::thread> ranks;
  for (std::int32_t rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto session = join();
      for (int round = 0; round < kRounds; ++round) {
        session->start_recording_blocking();
        for (std::int32_t operation = 0; operation < kOperations; ++operation) {
          session->push({.iteration = round, .local_rank = rank, .operation = operation});
          fake_.launch({{}, {}});
          session->pop();
        }
        session->collect_blocking();
        const std::vector<CuptiActivity> taken = session->take(rank);
        ASSERT_EQ(taken.size(), 2U * kOperations);
        for (std::size_t i = 0; i < taken.size(); ++i) {
          EXPECT_EQ(taken[i].work, (WorkId{.iteration = round,
                                           .local_rank = rank,
                                           .operation = static_cast<std::int32_t>(i / 2)}));
        }
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(fake_.num_calls("cuptiFinalize"), fake_.num_calls("cuptiUnsubscribe"));
  EXPECT_FALSE(fake_.is_subscribed());
}

TEST_F(CuptiSessions, DoNotWaitForeverForARank) {
  settings_.collect_timeout = 10ms;
  const auto session = join();
  session->start_recording_blocking();  // a rank that hangs
  EXPECT_EQ(record(*session, fake_, {.local_rank = 1, .operation = 1}).size(), 1U);
  EXPECT_FALSE(fake_.enabled().empty()) << "the other one still records";
  session->collect_blocking();
  EXPECT_THAT(fake_.enabled(), IsEmpty());
}

// Threads that come and go while others do: starts, ends and failures of starts do not mix.
TEST_F(CuptiSessions, StartAndEndFromManyThreads) {
  std::atomic<int> num_joined = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 6; ++round) {
        if (thread == 0) round % 2 == 0 ? fake_.fail("cuptiSubscribe", 39) : fake_.succeed();
        auto joined = CuptiSession::join_blocking(FakeCupti::api(), settings_);
        if (std::holds_alternative<std::string>(joined)) continue;
        ++num_joined;
        auto& session = *std::get<std::shared_ptr<CuptiSession>>(joined);
        const WorkId id{.iteration = round, .local_rank = thread, .operation = 1};
        session.start_recording_blocking();
        session.push(id);
        fake_.launch({{}});
        session.pop();
        session.collect_blocking();
        EXPECT_EQ(session.take(thread).size(), 1U);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(fake_.is_subscribed());
  fake_.succeed();
  EXPECT_NE(join(), nullptr);
}

}  // namespace
}  // namespace flex
