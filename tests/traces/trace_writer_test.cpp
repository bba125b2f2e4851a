#include "traces/trace_writer.h"

#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/support/count_allocations.h"
#include "tests/traces/cases.h"
#include "tests/traces/gated_sink.h"

/// The thread that writes while a run goes on.
namespace flex {
namespace {

using namespace std::chrono_literals;
using testing::Gate;
using testing::GatedSink;
using testing::read_and_check;
using testing::ReadResult;
using testing::small_backward;
using testing::small_forward;
using testing::small_header;

class FailingSink final : public ByteSink {
 public:
  explicit FailingSink(int good_writes) : good_writes_(good_writes) {}
  void write(std::string_view bytes) override {
    if (!bytes.empty() && good_writes_-- <= 0) throw FileError("cannot write x: No space left on device");
  }
  void flush() override {}
  void close() override {}

 private:
  int good_writes_;
};

std::string read_file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool put(TraceWriter& writer, TraceRecord record) { return writer.record(record); }

TEST(TraceWriter, WritesWhatItIsGiven) {
  const TemporaryDirectory directory;
  for (const char* name : {"run.jsonl", "run.jsonl.gz"}) {
    TraceWriter writer(directory / name, small_header());
    for (std::int64_t step = 0; step < 300; ++step) {
      ASSERT_TRUE(put(writer, small_forward(step)));
      ASSERT_TRUE(put(writer, small_backward(step)));
    }
    EXPECT_EQ(writer.close(), (TraceTrailer{.num_records = 600, .num_dropped = 0}));
    const ReadResult result = read_and_check(read_file_text(directory / name));
    EXPECT_EQ(result.error, "");
    ASSERT_EQ(result.records.size(), 600);
    EXPECT_EQ(result.records[598], small_forward(299));
    EXPECT_EQ(result.records[599], small_backward(299));
  }
}

// While the disk takes nothing, the queue of 8 fills; everything after it is dropped without waiting, and the
// backward passes of what was dropped go too.
TEST(TraceWriter, DropsAndCountsWhatAFullQueueCannotTake) {
  Gate gate;
  TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header(), {.queue_records = 8});
  gate.set_open(false);
  ASSERT_TRUE(put(writer, small_forward(0)));
  gate.await_writer();
  int num_taken = 1;
  for (std::int64_t step = 1; step <= 100; ++step) num_taken += put(writer, small_forward(step)) ? 1 : 0;
  EXPECT_EQ(num_taken, 9) << "one is at the disk, eight wait";
  EXPECT_EQ(writer.num_dropped(), 92);
  gate.set_open(true);
  while (gate.content().find("\"step\":8") == std::string::npos) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(put(writer, small_backward(100))) << "there is room again";
  EXPECT_TRUE(put(writer, small_forward(101)));
  EXPECT_EQ(writer.close(), (TraceTrailer{.num_records = 10, .num_dropped = 93}));
  const ReadResult result = read_and_check(gate.text);
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.records.back(), small_forward(101));
  EXPECT_EQ(result.trailer->num_dropped, 93);
}

TEST(TraceWriter, BytesInTheQueueAreBoundedToo) {
  Gate gate;
  const std::size_t record_bytes = testing::small_counts().num_entries() * sizeof(ExpertCount);
  TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header(),
                     {.queue_records = 100, .queue_bytes = 3 * record_bytes});
  gate.set_open(false);
  ASSERT_TRUE(put(writer, small_forward(0)));
  gate.await_writer();
  int num_taken = 0;
  for (std::int64_t step = 1; step <= 20; ++step) num_taken += put(writer, small_forward(step)) ? 1 : 0;
  EXPECT_EQ(num_taken, 3);
  gate.set_open(true);
  EXPECT_EQ(writer.close(), (TraceTrailer{.num_records = 4, .num_dropped = 17}));
}

// One producer as fast as it can against a disk that stops now and then: what was taken is there, in order,
// and the rest is counted.
TEST(TraceWriter, NothingIsLostUncounted) {
  Gate gate;
  TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header(), {.queue_records = 32});
  std::atomic<bool> is_done = false;
  std::thread disturber([&] {
    while (!is_done) {
      gate.set_open(false);
      std::this_thread::sleep_for(200us);
      gate.set_open(true);
      std::this_thread::sleep_for(200us);
    }
  });
  constexpr std::int64_t kSteps = 20'000;
  std::vector<std::int64_t> taken;
  TraceRecord record;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    record = small_forward(step);
    if (writer.record(record)) taken.push_back(step);
    if (step % 64 == 0) std::this_thread::sleep_for(50us);
  }
  is_done = true;
  disturber.join();
  const TraceTrailer trailer = writer.close();
  EXPECT_EQ(trailer.num_records, static_cast<std::int64_t>(taken.size()));
  EXPECT_EQ(trailer.num_records + trailer.num_dropped, kSteps);
  const ReadResult result = read_and_check(gate.text);
  ASSERT_EQ(result.records.size(), taken.size());
  for (std::size_t i = 0; i < taken.size(); ++i) ASSERT_EQ(result.records[i], small_forward(taken[i]));
}

TEST(TraceWriter, RecordingAllocatesNothingOnceItsBuffersHaveGrown) {
  Gate gate;
  TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header(), {.queue_records = 4});
  TraceRecord record = small_forward(0);
  const SparseCounts counts = testing::small_counts();
  const auto record_step = [&](std::int64_t step) {
    record.step = step;
    record.plan = kDefaultPlan;
    record.counts.clear();
    for (std::size_t i = 0; i < counts.num_rows(); ++i) {
      record.counts.begin_row(counts.row(i).source);
      for (const ExpertCount& entry : counts.row(i).experts) record.counts.add(entry.expert, entry.choices);
    }
    return writer.record(record);
  };
  std::int64_t step = 0;
  for (int taken = 0; taken < 50;) taken += record_step(step++) ? 1 : 0;
  gate.set_open(false);
  ASSERT_TRUE([&] {
    while (!record_step(step++)) {
    }
    return true;
  }());
  gate.await_writer();  // so that its thread does not count
  const std::int64_t before = testing::num_allocations();
  for (int i = 0; i < 10; ++i) (void)record_step(step++);
  EXPECT_EQ(testing::num_allocations(), before);
  gate.set_open(true);
  writer.close();
}

// A run that was killed leaves what was written: here the file is looked at while the writer lives.
TEST(TraceWriter, TheFileIsReadableAsItGrows) {
  const TemporaryDirectory directory;
  for (const char* name : {"run.jsonl", "run.jsonl.gz"}) {
    TraceWriter writer(directory / name, small_header(), {.flush_interval = 0ms});
    EXPECT_TRUE(read_and_check(read_file_text(directory / name)).header) << "written before anything else";
    ASSERT_TRUE(put(writer, small_forward(0)));
    ReadResult result;
    for (int i = 0; i < 10'000 && result.records.empty(); ++i) {
      result = read_and_check(read_file_text(directory / name));
      std::this_thread::sleep_for(1ms);
    }
    ASSERT_EQ(result.records.size(), 1) << name;
    EXPECT_NE(result.error, "");
    writer.close();
  }
}

TEST(TraceWriter, AFullDiskEndsNoRun) {
  TraceWriter writer(std::make_unique<FailingSink>(1), "x", small_header());
  for (std::int64_t step = 0; step < 20; ++step) EXPECT_TRUE(put(writer, small_forward(step)));
  EXPECT_EQ(message_of<FileError>([&] { writer.close(); }),
            "x: not all records were written: cannot write x: No space left on device");
}

TEST(TraceWriter, AFullDeviceIsTold) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ(message_of<FileError>([] { TraceWriter writer("/dev/full", small_header()); }),
            "cannot write /dev/full: No space left on device");
}

TEST(TraceWriter, RecordsThatNoReaderTakesAreDropped) {
  Gate gate;
  TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header());
  EXPECT_TRUE(put(writer, small_forward(0, 7)));
  EXPECT_TRUE(put(writer, small_forward(0)));
  EXPECT_TRUE(put(writer, small_forward(0)));
  EXPECT_TRUE(put(writer, small_backward(1)));
  EXPECT_EQ(writer.close(), (TraceTrailer{.num_records = 1, .num_dropped = 3}));
  EXPECT_EQ(read_and_check(gate.text).error, "");
}

TEST(TraceWriter, ClosesOnce) {
  Gate gate;
  {
    TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header());
    put(writer, small_forward(0));
    writer.close();
    EXPECT_EQ(message_of<Error>([&] { writer.close(); }), "gated: was closed already");
  }
  const std::string text = gate.text;
  {
    TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", small_header());
    put(writer, small_forward(0));
  }
  EXPECT_EQ(gate.text, text + text) << "the destructor closes too";
}

TEST(TraceWriter, NeedsAHeaderAndAFile) {
  EXPECT_THROW(TraceWriter("/nowhere/run.jsonl", small_header()), FileError);
  EXPECT_EQ(message_of<InputError>([] {
              Gate gate;
              TraceWriter writer(std::make_unique<GatedSink>(gate), "gated", {});
            }),
            "layers: there are 0; a trace has 1 to 4096");
}

}  // namespace
}  // namespace flex
