#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "traces/trace_output.h"

namespace flex {

struct TraceWriterOptions {
  std::size_t queue_records = 1024;                  ///< that may wait
  std::size_t queue_bytes = std::size_t{256} << 20;  ///< of counts that may wait; one record always may
  std::chrono::milliseconds flush_interval{1000};    ///< of a gzip file: each flush costs bytes
};

/// Writes a trace while a run goes on, in a thread of its own. record() never waits: not for the disk, not
/// for a lock; it calls nothing of the system, and once its buffers have grown it allocates nothing.
///
/// The file is written in its place, line by line, so that what a killed run leaves is readable up to its
/// last whole record: in a plain file that is what was recorded some milliseconds ago, in a gzip file what
/// was recorded before the last flush, which comes every flush_interval.
///
/// A file that cannot be written any more (a full disk) ends no run: one line in the log says so, what comes
/// is counted as dropped, and close() throws.
class TraceWriter {
 public:
  /// @throws FileError if the file cannot be made; InputError for a header that cannot be.
  TraceWriter(const std::filesystem::path& path, TraceHeader header, TraceWriterOptions options = {});
  /// @param name of the sink, for messages.
  TraceWriter(std::unique_ptr<ByteSink> sink, std::string name, TraceHeader header,
              TraceWriterOptions options = {});
  /// Closes, and logs what close() would have thrown.
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  /// Takes the record, or drops it if the queue is full. Either way `record` holds memory to use again, and
  /// nothing else of meaning. One thread at a time. False: dropped.
  ///
  /// A record that no reader would take (TraceCheck), and a backward pass whose forward pass was dropped, are
  /// dropped in the thread, later.
  bool record(TraceRecord& record) noexcept;
  /// Counts records that never came: passes whose numbers are lost. From the thread that records.
  void drop(std::int64_t num_records) noexcept {
    num_dropped_.fetch_add(num_records, std::memory_order_relaxed);
  }

  /// Waits until everything is written, and ends the file. Once; record() must not be called any more.
  /// @throws FileError if any of it could not be written.
  TraceTrailer close();

  /// So far.
  [[nodiscard]] std::int64_t num_dropped() const { return num_dropped_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    TraceRecord record;
    std::size_t bytes = 0;  // counted in queued_bytes_
  };

  void run();
  void write(Slot& slot);
  void flush_if_due();
  void fail_once(const std::string& reason);

  std::string name_;
  TraceWriterOptions options_;
  TraceOutput output_;
  std::vector<Slot> slots_;  // a ring with one producer and one consumer
  std::chrono::steady_clock::time_point flushed_at_;
  std::int64_t num_flushed_ = 0;        // records at the last flush
  std::optional<std::string> failure_;  // of the thread, until it has ended
  bool has_warned_ = false;
  bool is_closed_ = false;

  alignas(64) std::atomic<std::uint64_t> pushed_ = 0;  // records ever put in; kEnd: there come no more
  alignas(64) std::atomic<std::uint64_t> popped_ = 0;
  std::atomic<std::size_t> queued_bytes_ = 0;
  std::atomic<std::int64_t> num_dropped_ = 0;
  std::thread thread_;
};

}  // namespace flex
