#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "base/error.h"
#include "runtime/control_diagnosis.h"
#include "runtime/control_wire.h"
#include "runtime/flight_record.h"
#include "tests/base/expect_error.h"

/// The parts of the control channel that need no sockets.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;

TEST(ControlWire, FramesSurviveEveryCutOfTheStream) {
  const std::string stream = frame_bytes(FrameKind::kBeat, "") + frame_bytes(FrameKind::kAbort, "because") +
                             frame_bytes(FrameKind::kLeave, "");
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    FrameReader reader;
    std::vector<Frame> frames;
    for (const std::string& part : {stream.substr(0, cut), stream.substr(cut)}) {
      reader.append(part);
      while (auto frame = reader.next()) frames.push_back(std::move(*frame));
    }
    ASSERT_EQ(frames.size(), 3U) << cut;
    EXPECT_EQ(frames[1].kind, FrameKind::kAbort);
    EXPECT_EQ(frames[1].payload, "because");
  }
}

TEST(ControlWire, ForeignBytesAreQuotedFromTheFirstOne) {
  FrameReader reader;
  reader.append("G");
  EXPECT_EQ(message_of<CommError>([&] { static_cast<void>(reader.next()); }), "it sent 'G'");
  FrameReader kinds;
  std::string frame = frame_bytes(FrameKind::kBeat, "");
  frame[4] = 99;
  kinds.append(frame);
  EXPECT_EQ(message_of<CommError>([&] { static_cast<void>(kinds.next()); }),
            "it sent a message of kind 99 and 0 bytes; another version of Flex?");
}

TEST(ControlMessages, RandomPayloadsAreRefusedOrReadButNeverCrash) {
  std::mt19937 random(11);
  const std::string valid = encode(ArrivalMessage{.group = 7,
                                                  .number = 3,
                                                  .operation = "op",
                                                  .call = "op, 8 bytes",
                                                  .pieces = {"ab", ""},
                                                  .sent_bytes = {1, 2},
                                                  .expected_bytes = {3, 4}});
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string payload = valid.substr(0, random() % (valid.size() + 1));
    for (int flips = 0; flips < 3 && !payload.empty(); ++flips) {
      payload[random() % payload.size()] = static_cast<char>(random());
    }
    try {
      static_cast<void>(decode_arrival(payload));
    } catch (const CommError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 4000);
  const ArrivalMessage read = decode_arrival(valid);
  EXPECT_EQ(read.pieces, (std::vector<std::string>{"ab", ""}));
  EXPECT_EQ(read.expected_bytes, (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(message_of<CommError>([&] { static_cast<void>(decode_arrival(valid + "x")); }),
            "a message has 1 bytes too many");
}

ArrivalMessage arrival(std::uint64_t number, std::size_t pieces = 1) {
  return {.group = 1,
          .number = number,
          .operation = "all_reduce (gate)",
          .call = "all_reduce (gate), sum of 1 fp64",
          .pieces = std::vector<std::string>(pieces)};
}

TEST(ControlMeetings, RefusesWhatCannotBe) {
  ControlMeetings meetings(4);
  const auto refused = [&](auto&& call) { return message_of<CommError>(call); };
  EXPECT_EQ(refused([&] {
              meetings.declare(0, {1, {0, 4}});
            }),
            "rank 0 tells of a group {0,4} of a world of 4");
  EXPECT_EQ(refused([&] {
              meetings.declare(0, {1, {0, 0}});
            }),
            "rank 0 tells of a group {0,0} of a world of 4");
  EXPECT_EQ(refused([&] {
              meetings.declare(0, {1, {1, 2}});
            }),
            "rank 0 tells of a group {1,2} of a world of 4");
  meetings.declare(0, {1, {0, 2}});
  EXPECT_EQ(refused([&] {
              meetings.declare(2, {1, {2, 0}});
            }),
            "rank 2 says that a group is {2,0}, another rank that it is {0,2}");
  EXPECT_EQ(refused([&] { static_cast<void>(meetings.arrive(1, arrival(0), {})); }),
            "rank 1 calls all_reduce (gate) in group {0,2}");
  EXPECT_EQ(refused([&] { static_cast<void>(meetings.arrive(0, arrival(0, 3), {})); }),
            "rank 0 calls all_reduce (gate) with data for 3 ranks, the group has 2");
  static_cast<void>(meetings.arrive(0, arrival(0), {}));
  EXPECT_EQ(refused([&] { static_cast<void>(meetings.arrive(0, arrival(0), {})); }),
            "rank 0 comes twice to all_reduce (gate) in group {0,2} #0");
}

FlightOperation operation(std::uint64_t number, OperationState state, std::string call = "copy, 8 bytes") {
  return {.id = {1, number}, .state = state, .operation = "all_to_all (dispatch)", .call = std::move(call)};
}

/// Ranks 0 to 2 in one group; call 5 of their devices.
Evidence three_ranks(std::vector<ReportMessage> reports) {
  Evidence evidence{.deadline = 500ms, .groups = {{1, {0, 1, 2}}}};
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    evidence.reports[static_cast<int>(rank)] = std::move(reports[rank]);
  }
  return evidence;
}

TEST(ControlDiagnosis, ADeviceThatWaitsNamesWhoDidNotCome) {
  const ReportMessage there{{{1, 6}}, {operation(5, OperationState::kEntered)}};
  const ReportMessage busy{{{1, 6}}, {operation(5, OperationState::kQueued)}};
  const ReportMessage elsewhere{{{1, 5}}, {operation(4, OperationState::kDone)}};
  const std::string place = "all_to_all (dispatch) in group {0,1,2}: ";
  EXPECT_EQ(explain_stall(0, {1, 5}, three_ranks({there, there, elsewhere})),
            place + "rank 2 did not arrive within 500 ms");
  EXPECT_EQ(explain_stall(0, {1, 5}, three_ranks({there, busy, elsewhere})),
            place + "ranks 1, 2 did not arrive within 500 ms");
  EXPECT_EQ(explain_stall(0, {1, 5}, three_ranks({there, there, there})), std::nullopt) << "data is moving";
  const ReportMessage long_done{{{1, 90}}, {operation(89, OperationState::kDone)}};
  EXPECT_EQ(explain_stall(0, {1, 5}, three_ranks({there, there, long_done})), std::nullopt);
  EXPECT_EQ(explain_stall(0, {7, 5}, three_ranks({there, there, there})), std::nullopt) << "an unknown group";
}

TEST(ControlDiagnosis, DifferentCallsOfDevicesAreNamed) {
  const ReportMessage there{{{1, 6}}, {operation(5, OperationState::kEntered)}};
  const ReportMessage other{{{1, 6}}, {operation(5, OperationState::kEntered, "copy, 16 bytes")}};
  EXPECT_EQ(
      explain_stall(0, {1, 5}, three_ranks({there, other, there})),
      "the ranks of group {0,1,2} do not call the same: ranks 0, 2 called copy, 8 bytes; rank 1 called copy, "
      "16 bytes");
}

TEST(ControlDiagnosis, ALossNamesTheOperationThatOthersWaitIn) {
  const ReportMessage there{{{1, 6}}, {operation(5, OperationState::kEntered)}};
  const LostRank lost{.rank = 2, .last = "broadcast (other) #4 in group {0,1,2}"};
  EXPECT_EQ(explain_loss(lost, three_ranks({there, there})),
            "rank 2 is gone during all_to_all (dispatch) #5 in group {0,1,2}: its process ended");
  EXPECT_EQ(explain_loss(lost, three_ranks({{}, {}})),
            "rank 2 is gone during or after broadcast (other) #4 in group {0,1,2}: its process ended");
  EXPECT_EQ(
      explain_loss({.rank = 2, .silent = true, .silence = 3004ms}, three_ranks({{}, {}})),
      "rank 2 does not answer before its first operation: nothing came from its process for 3004 ms; is it "
      "stopped?");
}

TEST(ControlDiagnosis, SettingsAreComparedByName) {
  EXPECT_EQ(settings_difference({{0, {{"A", "1"}, {"B", "x"}}}, {1, {{"B", "x"}, {"A", "1"}}}}), "");
  EXPECT_EQ(
      settings_difference({{0, {{"A", "1"}, {"B", "x"}}}, {1, {{"A", "2"}, {"B", "x"}}}, {2, {{"A", "2"}}}}),
      "A is 1 on rank 0 and 2 on rank 1; B is x on rank 0 and (unknown) on rank 2");
}

TEST(FlightRecord, KeepsTheLastOperationsAndWhatIsUnderWay) {
  FlightRecord record;
  EXPECT_EQ(record.current(), "");
  const auto group = std::make_shared<const GroupOfRanks>(GroupOfRanks{9, {0, 1}});
  const CollectiveCall call = all_to_all_call({.bytes_per_peer = 64, .traffic = Traffic::kDispatch}, 2);
  const std::uint64_t stuck = record.call(group, 0, call);
  record.enter(stuck);
  for (std::uint64_t number = 1; number < 500; ++number) {
    const std::uint64_t ticket = record.call(group, number, call);
    record.enter(ticket);
    record.finish(ticket);
  }
  EXPECT_EQ(record.current(), "all_to_all (dispatch) #0 in group {0,1}");
  record.finish(stuck);
  static_cast<void>(record.call(group, 500, call));
  EXPECT_EQ(record.current(), "all_to_all (dispatch) #500 in group {0,1}");
  const ReportMessage report = record.report();
  EXPECT_EQ(report.operations.size(), FlightRecord::kMostKept);
  EXPECT_EQ(report.operations.back().id, (CallId{9, 500}));
  EXPECT_EQ(report.operations.back().state, OperationState::kQueued);
  EXPECT_EQ(report.operations.back().call, "all_to_all (dispatch), 64 bytes per peer");
  ASSERT_EQ(report.groups.size(), 1U);
  EXPECT_EQ(report.groups[0].num_calls, 501U);
  const std::vector<std::string> lines = record.lines(2);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1].rfind(
                "#500 all_to_all (dispatch), 64 bytes per peer, in group {0,1}: 128 bytes, queued for ", 0),
            0U)
      << lines[1];
  record.finish(12345);  // what was dropped is no error
}

}  // namespace
}  // namespace flex::testing
