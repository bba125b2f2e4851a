#include "runtime/control_channel.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "runtime/control_member.h"
#include "runtime/tcp_socket.h"
#include "tests/base/expect_error.h"
#include "tests/runtime/process_job.h"

/// Jobs of real processes in which one is killed, stopped, missing or foreign: all others end within the
/// deadline with a message that names it.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kDeadline{10'000};  // 5 s of silence count as stopped
/// A contract of failures: known one second after the deadline.
constexpr std::chrono::milliseconds kEnd = kDeadline + 1000ms;

/// A port that is free now. Nobody else draws it soon: the system hands them out in turn.
int free_port() { return listening_port(listen_at("127.0.0.1", 0)); }

JoinOptions options_of(int rank, int world, int port) {
  return {.rank = rank,
          .world = world,
          .job = "test",
          .host = "127.0.0.1",
          .port = port,
          .deadline = kDeadline,
          .settings = {{"NCCL", "2.28.9"}, {"ranks per node", "2"}}};
}

void meet(Communicator& communicator) {
  Stream stream(Device::cpu());
  double value = 1.0;
  communicator.all_reduce(&value, 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
  stream.synchronize_blocking();
}

using Change = std::function<void(int rank, JoinOptions& options)>;
using Body = std::function<void(Communicator& world)>;

/// Starts `world` ranks. Each joins, runs the body, and says `done` or why it failed.
void start_ranks(ProcessJob& job, int world, const Change& change, const Body& body) {
  const int port = free_port();
  for (int rank = 0; rank < world; ++rank) {
    job.start([=] {
      JoinOptions options = options_of(rank, world, port);
      if (change) change(rank, options);
      const auto communicator = make_control_world(options, 2);
      body(*communicator);
      return std::string("done");
    });
  }
}

/// Two collectives; then `rank` does something instead of the third.
Body third_call_of(int rank, const std::function<void()>& instead) {
  return [=](Communicator& world) {
    meet(world);
    meet(world);
    if (world.rank() == rank) instead();
    meet(world);
  };
}

TEST(ControlChannel, AJobThatEndsWell) {
  ProcessJob job;
  start_ranks(job, 3, nullptr, [](Communicator& world) {
    meet(world);
    meet(world);
  });
  for (std::size_t rank = 0; rank < 3; ++rank) EXPECT_EQ(job.text(rank, kEnd), "done");
}

TEST(ControlChannel, AKilledProcessIsNamedWithTheOperation) {
  ProcessJob job;
  start_ranks(job, 4, nullptr, third_call_of(2, [] {
                // The others are waiting by then.
                std::this_thread::sleep_for(500ms);
                raise(SIGKILL);
              }));
  for (const std::size_t rank : {0U, 1U, 3U}) {
    EXPECT_EQ(job.text(rank, kEnd),
              "rank 2 is gone during all_reduce (gate) #2 in group {0,1,2,3}: its process ended");
  }
}

TEST(ControlChannel, AStoppedProcessIsNamedWithTheOperation) {
  ProcessJob job;
  start_ranks(job, 4, nullptr, third_call_of(2, [] { raise(SIGSTOP); }));
  for (const std::size_t rank : {0U, 1U, 3U}) {
    EXPECT_THAT(
        job.text(rank, kEnd),
        AllOf(HasSubstr("rank 2 does not answer during all_reduce (gate) #2 in group {0,1,2,3}: nothing "
                        "came from its process for 5"),
              HasSubstr(" ms; is it stopped?")));
  }
  job.signal(2, SIGCONT);
  EXPECT_NE(job.text(2, kEnd), "(still running)") << "it learns that its job has failed";
}

TEST(ControlChannel, TheEndOfRankZeroIsNamed) {
  for (const int signal : {SIGKILL, SIGSTOP}) {
    ProcessJob job;
    start_ranks(job, 3, nullptr, third_call_of(0, [signal] {
                  std::this_thread::sleep_for(200ms);
                  raise(signal);
                }));
    for (const std::size_t rank : {1U, 2U}) {
      EXPECT_THAT(job.text(rank, kEnd),
                  AllOf(HasSubstr(signal == SIGKILL ? "rank 0 is gone" : "rank 0 does not answer"),
                        HasSubstr("all_reduce (gate) #2 in group {0,1,2}")));
    }
  }
}

TEST(ControlChannel, AMissingRankIsNamed) {
  ProcessJob job;
  const int port = free_port();
  for (const int rank : {0, 2}) {
    job.start([=] {
      JoinOptions options = options_of(rank, 4, port);
      options.deadline = 500ms;
      const ControlChannel channel(options);
      return std::string("joined");
    });
  }
  for (const std::size_t process : {0U, 1U}) {
    EXPECT_EQ(job.text(process, kEnd),
              fmt::format("join: ranks 1, 3 of 4 did not join within 500 ms at 127.0.0.1:{}", port));
  }
}

TEST(ControlChannel, AMissingRankZeroIsNamed) {
  JoinOptions options = options_of(1, 2, free_port());
  options.deadline = 300ms;
  EXPECT_EQ(
      message_of<CommError>([&] { const ControlChannel channel(options); }),
      fmt::format("join: rank 0 did not listen at 127.0.0.1:{} within 300 ms; is it running, and is this "
                  "address its own?",
                  options.port));
}

TEST(ControlChannel, AProcessThatEndsWhileOthersJoinIsNamed) {
  ProcessJob job;
  const int port = free_port();
  for (const int rank : {0, 1}) {
    job.start([=] {
      if (rank == 1) {
        std::thread([] {
          std::this_thread::sleep_for(300ms);
          raise(SIGKILL);
        }).detach();
      }
      const ControlChannel channel(options_of(rank, 3, port));
      return std::string("joined");
    });
  }
  EXPECT_EQ(job.text(0, kEnd), "join: rank 1 ended before all 3 ranks had joined");
}

TEST(ControlChannel, AWrongWorldSizeIsNamedOnEveryRank) {
  ProcessJob job;
  start_ranks(
      job, 3,
      [](int rank, JoinOptions& options) {
        if (rank == 2) options.world = 8;
      },
      meet);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(
        job.text(rank, kEnd),
        "join: rank 2 was started as one of 8 ranks, rank 0 as one of 3; start all with one number of ranks");
  }
}

TEST(ControlChannel, SettingsThatDifferAreNamedWithTheirRanks) {
  ProcessJob job;
  start_ranks(
      job, 3,
      [](int rank, JoinOptions& options) {
        if (rank == 1) options.settings[0].value = "2.27.3";
      },
      meet);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(job.text(rank, kEnd),
              "join: the ranks do not fit together: NCCL is 2.28.9 on rank 0 and 2.27.3 on rank 1");
  }
}

TEST(ControlChannel, TwoJobsOnOnePortDoNotMix) {
  ProcessJob job;
  const int port = free_port();
  const auto start = [&](int rank, const std::string& name) {
    job.start([=] {
      JoinOptions options = options_of(rank, 2, port);
      options.job = name;
      const auto world = make_control_world(options, 2);
      std::this_thread::sleep_for(rank == 0 ? 500ms : 0ms);
      meet(*world);
      return std::string("done");
    });
  };
  start(0, "first");
  std::this_thread::sleep_for(200ms);
  start(0, "second");
  start(1, "second");
  std::this_thread::sleep_for(500ms);
  start(1, "first");
  EXPECT_EQ(
      job.text(1, kEnd),
      fmt::format("rank 0 cannot listen at 127.0.0.1:{}: another program has the port; give this job its "
                  "own, e.g. FLEX_CONTROL=<host of rank 0>:<port>",
                  port));
  EXPECT_EQ(
      job.text(2, kEnd),
      fmt::format("127.0.0.1:{} belongs to job first, this process (rank 1) to job second: two programs "
                  "use one port; give each its own, e.g. FLEX_CONTROL=<host of rank 0>:<port>",
                  port));
  EXPECT_EQ(job.text(0, kEnd), "done");
  EXPECT_EQ(job.text(3, kEnd), "done");
}

TEST(ControlChannel, ARankThatJoinsTwiceIsNamed) {
  ProcessJob job;
  const int port = free_port();
  for (const int rank : {0, 1, 1}) {
    job.start([=] {
      const ControlChannel channel(options_of(rank, 3, port));
      return std::string("joined");
    });
  }
  for (std::size_t process = 0; process < 3; ++process) {
    EXPECT_THAT(job.text(process, kEnd), HasSubstr("join: rank 1 joined twice at 127.0.0.1:"));
  }
}

/// Connects to `port` once somebody listens there, and sends these bytes.
FileDescriptor send_to(int port, const std::string& bytes) {
  for (int i = 0; i < 100; ++i) {
    FileDescriptor socket = try_connect("127.0.0.1", port, 100ms);
    if (socket.is_open()) {
      EXPECT_EQ(write_some(socket, bytes), std::ssize(bytes));
      return socket;
    }
    std::this_thread::sleep_for(20ms);
  }
  ADD_FAILURE() << "nobody listens";
  return FileDescriptor();
}

TEST(ControlChannel, StrangersAreDroppedAndDisturbNobody) {
  ProcessJob job;
  const int port = free_port();
  const auto start = [&](int rank) {
    job.start([=] {
      const auto world = make_control_world(options_of(rank, 2, port), 2);
      meet(*world);
      return std::string("done");
    });
  };
  start(0);
  std::string absurd = frame_bytes(FrameKind::kHello, "");
  absurd.replace(8, 8, std::string(8, '\x7f'));  // a length that nobody has memory for
  const FileDescriptor browser = send_to(port, "GET / HTTP/1.1\r\n\r\n");
  const FileDescriptor liar = send_to(port, absurd);
  const FileDescriptor cut = send_to(port, frame_bytes(FrameKind::kHello, "short"));
  const FileDescriptor early = send_to(port, frame_bytes(FrameKind::kAbort, "I was never here"));
  const FileDescriptor silent = send_to(port, "");
  start(1);
  EXPECT_EQ(job.text(0, kEnd), "done");
  EXPECT_EQ(job.text(1, kEnd), "done");
}

TEST(ControlChannel, AnotherProgramOnThePortIsRecognized) {
  const FileDescriptor listener = listen_at("127.0.0.1", 0);
  const int port = listening_port(listener);
  const auto join = [&](const std::string& answer) {
    ProcessJob job;
    job.start([&] {
      JoinOptions options = options_of(1, 2, port);
      options.deadline = 2000ms;
      const ControlChannel channel(options);
      return std::string("joined");
    });
    FileDescriptor socket;
    while (!socket.is_open()) socket = accept_from(listener);
    EXPECT_EQ(write_some(socket, answer), std::ssize(answer));
    return job.text(0, kEnd);
  };
  EXPECT_EQ(join("220 mail.example.org ESMTP\r\n"),
            fmt::format("join: what listens at 127.0.0.1:{} is not rank 0 of a Flex job: it sent '220 "
                        "mail.example.org ESMTP..'",
                        port));
  EXPECT_EQ(
      join(""),
      fmt::format("join: what listens at 127.0.0.1:{} does not answer; is it rank 0 of this job?", port));
}

TEST(ControlChannel, APortInUseIsNamed) {
  const FileDescriptor other = listen_at("127.0.0.1", 0);
  const JoinOptions options = options_of(0, 1, listening_port(other));
  EXPECT_THAT(message_of<CommError>([&] { const ControlChannel channel(options); }),
              HasSubstr("another program has the port"));
}

TEST(ControlChannel, AnAddressOfAnotherMachineIsNamed) {
  JoinOptions options = options_of(0, 1, free_port());
  options.host = "192.0.2.1";  // TEST-NET-1: nobody has it
  EXPECT_THAT(message_of<CommError>([&] { const ControlChannel channel(options); }),
              HasSubstr("that is no address of its machine; name the host of rank 0"));
}

TEST(ControlChannel, ABrokenProtocolFailsTheWorldAndNamesTheRank) {
  ProcessJob job;
  const int port = free_port();
  job.start([=] {
    const auto world = make_control_world(options_of(0, 2, port), 2);
    meet(*world);
    return std::string("done");
  });
  const HelloMessage hello{.job = "test", .rank = 1, .world = 2, .settings = options_of(1, 2, port).settings};
  const FileDescriptor socket = send_to(port, frame_bytes(FrameKind::kHello, encode(hello)) +
                                                  frame_bytes(FrameKind::kArrival, "not an arrival"));
  EXPECT_EQ(job.text(0, kEnd), "rank 1 broke its control channel: a message ends 2 bytes early");
}

TEST(ControlChannel, OptionsThatCannotBeAreRefused) {
  JoinOptions options = options_of(2, 2, 1);
  EXPECT_EQ(message_of<InputError>([&] { const ControlChannel channel(options); }), "rank 2 of a world of 2");
  options = options_of(0, 1, 1);
  options.deadline = 0ms;
  EXPECT_EQ(message_of<InputError>([&] { const ControlChannel channel(options); }),
            "a deadline of 0 ms; it is at least 1 ms");
}

}  // namespace
}  // namespace flex::testing
