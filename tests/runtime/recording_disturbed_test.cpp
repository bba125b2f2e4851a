#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

#include "base/error.h"
#include "runtime/launch.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/runtime/recorded_world.h"
#include "tests/support/count_allocations.h"
#include "tests/traces/gated_sink.h"

/// A recording beside ranks that fail, and disks that do not take it.
namespace flex::testing {
namespace {

using namespace std::chrono_literals;
using testing::Gate;
using testing::GatedSink;

const ForwardCall kFixed{.top_k = 2, .capacity_factor = 1};
const ForwardCall kDropless{.top_k = 2, .capacity_factor = 0};
const std::vector<std::int64_t> kChoices = {0, 1, 0, 2, 0, 1};

class FullSink final : public ByteSink {
 public:
  void write(std::string_view bytes) override {
    if (!bytes.empty() && std::exchange(has_header_, true)) throw FileError("No space left on device");
  }
  void flush() override {}
  void close() override {}

 private:
  bool has_header_ = false;
};

std::unique_ptr<TraceWriter> writer_on_rank_0(std::unique_ptr<ByteSink> sink, const TraceHeader& header,
                                              const RankContext& context, TraceWriterOptions options = {}) {
  if (context.rank() != 0) return nullptr;
  return std::make_unique<TraceWriter>(std::move(sink), "the disk", header, options);
}

/// One rank with a recorded layer.
struct Rank {
  RankContext context;
  TraceRecorder recorder;
  MoeLayer layer;
  RecordedLayer recorded;
  KnownTokens tokens;
  Stream stream{Device::cpu()};

  Rank(Communicator& world, std::unique_ptr<ByteSink> sink, TraceWriterOptions options = {})
      : context(world, Device::cpu()),
        recorder(writer_on_rank_0(std::move(sink), header_of(world.size(), {kFixed}), context, options),
                 header_of(world.size(), {kFixed}), context),
        layer(recorded_config(), context),
        recorded(layer, recorder, 0, context),
        tokens(kChoices, 2, layer) {}
  Rank(Communicator& world, const std::filesystem::path& file)
      : Rank(world, world.rank() == 0 ? open_growing(file) : nullptr) {}

  void step(const ForwardCall& call = kFixed) {
    run_passes(recorded, tokens, call, stream);
    stream.synchronize_blocking();
  }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A step reaches the file when the step after the next begins: of five, steps 0 to 2.
TEST(RecordingDisturbed, ARankThatFailsLeavesAReadableFile) {
  const TemporaryDirectory directory;
  for (const int failing : {0, 1}) {
    const std::filesystem::path file = directory / (failing == 0 ? "0.jsonl" : "1.jsonl.gz");
    EXPECT_THROW(run_ranks({2, 1}, 5s,
                           [&](Communicator& world) {
                             Rank rank(world, file);
                             for (int step = 0; step < 5; ++step) rank.step();
                             if (world.rank() == failing) throw Failure("out of coffee");
                             for (int step = 0; step < 100; ++step) rank.step();
                           }),
                 Failure);
    const Recording recording = read_recording(file);
    ASSERT_EQ(recording.records.size(), 6);
    EXPECT_EQ(recording.records.back().step, 2);
    EXPECT_EQ(recording.records[4].counts.dense(2, kRecordedExperts),
              (std::vector<std::int64_t>{3, 2, 1, 0, 3, 2, 1, 0}));
    ASSERT_TRUE(recording.trailer);
    EXPECT_EQ(recording.trailer->num_dropped, 4) << "the ranks had not told each other of steps 3 and 4";
  }
}

TEST(RecordingDisturbed, ADiskThatTakesNothingStopsNoRank) {
  Gate disk;
  run_ranks({2, 1}, 30s, [&](Communicator& world) {
    Rank rank(world, std::make_unique<GatedSink>(disk), {.queue_records = 4});
    if (world.rank() == 0) disk.set_open(false);
    for (int step = 0; step < 5; ++step) rank.step();
    if (world.rank() == 0) disk.await_writer();  // three steps were handed over
    for (int step = 0; step < 30; ++step) rank.step();
    rank.recorder.finish_blocking();
    if (world.rank() == 0) disk.set_open(true);
    const auto trailer = rank.recorder.close();
    if (world.rank() != 0) return;
    EXPECT_EQ(trailer->num_records + trailer->num_dropped, 70);
    EXPECT_GE(trailer->num_dropped, 70 - 6 - 4) << "the queue has four places";
  });
}

TEST(RecordingDisturbed, AFullDiskEndsNoRunAndIsToldAtTheEnd) {
  int num_steps = 0;
  const std::string message = message_of<FileError>([&] {
    run_ranks({2, 1}, 30s, [&](Communicator& world) {
      Rank rank(world, std::make_unique<FullSink>());
      for (int step = 0; step < 10; ++step) rank.step();
      rank.recorder.finish_blocking();
      if (world.rank() == 0) num_steps = 10;
      rank.recorder.close();
    });
  });
  EXPECT_EQ(num_steps, 10);
  EXPECT_EQ(message, "the disk: not all records were written: No space left on device");
}

// The writer's thread waits at a disk, so that all allocations are the ranks'.
TEST(RecordingDisturbed, RecordingAllocatesNothingAfterWarmUp) {
  std::atomic<std::int64_t> allocations{-1};
  Gate disk;
  run_ranks({4, 2}, 60s, [&](Communicator& world) {
    Rank rank(world, std::make_unique<GatedSink>(disk), {.queue_records = 2});
    std::array<std::int64_t, 4> arrived{};
    const std::array<std::int64_t, 1> here{0};
    const auto run = [&] {
      for (const ForwardCall& call : {kFixed, kDropless, kFixed}) rank.step(call);
    };
    run();
    world.gather_host_blocking(here, arrived);
    if (world.rank() == 0) disk.set_open(false);
    for (int i = 0; i < 4; ++i) run();
    if (world.rank() == 0) disk.await_writer();
    world.gather_host_blocking(here, arrived);
    const std::int64_t before = num_allocations();
    for (int i = 0; i < 5; ++i) run();
    world.gather_host_blocking(here, arrived);  // nobody has left the loop's work yet
    if (world.rank() == 0) allocations = num_allocations() - before;
    world.gather_host_blocking(here, arrived);
    disk.set_open(true);
    rank.recorder.finish_blocking();
  });
  EXPECT_EQ(allocations, 0);
}

}  // namespace
}  // namespace flex::testing
