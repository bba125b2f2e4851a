#include "traces/trace_writer.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::size_t kMinKeptBytes = std::size_t{1} << 16;
// How long the thread sleeps when the queue is empty. Waking it would cost a run a system call for each
// record.
constexpr std::chrono::milliseconds kPollInterval{2};
constexpr std::uint64_t kEnd = std::uint64_t{1} << 63;  // of TraceWriter::pushed_

}  // namespace

TraceWriter::TraceWriter(const std::filesystem::path& path, TraceHeader header, TraceWriterOptions options)
    : TraceWriter(open_growing(path), path.string(), std::move(header), options) {}

TraceWriter::TraceWriter(std::unique_ptr<ByteSink> sink, std::string name, TraceHeader header,
                         TraceWriterOptions options)
    : name_(std::move(name)),
      options_(options),
      output_(std::move(sink), std::move(header)),
      slots_(std::max<std::size_t>(options.queue_records, 1)),
      flushed_at_(std::chrono::steady_clock::now()),
      thread_([this] { run(); }) {}

TraceWriter::~TraceWriter() {
  if (is_closed_) return;
  try {
    close();
  } catch (const std::exception& error) {
    log_error("{}", error.what());
  }
}

bool TraceWriter::record(TraceRecord& record) noexcept {
  const std::uint64_t at = pushed_.load(std::memory_order_relaxed);
  const bool is_full = at - popped_.load(std::memory_order_acquire) == slots_.size();
  const std::size_t bytes = record.counts.num_entries() * sizeof(ExpertCount);
  const std::size_t queued = queued_bytes_.load(std::memory_order_relaxed);
  if (is_full || (queued > 0 && queued + bytes > options_.queue_bytes)) {
    num_dropped_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  Slot& slot = slots_[at % slots_.size()];
  std::swap(slot.record, record);  // what comes back is the memory of a record that was written
  slot.bytes = bytes;
  queued_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  pushed_.store(at + 1, std::memory_order_release);
  return true;
}

void TraceWriter::run() {
  std::uint64_t at = 0;
  while (true) {
    const std::uint64_t pushed = pushed_.load(std::memory_order_acquire);
    if (at == (pushed & ~kEnd)) {
      if ((pushed & kEnd) != 0) return;
      flush_if_due();
      std::this_thread::sleep_for(kPollInterval);
      continue;
    }
    Slot& slot = slots_[at % slots_.size()];
    write(slot);
    queued_bytes_.fetch_sub(slot.bytes, std::memory_order_relaxed);
    popped_.store(++at, std::memory_order_release);
  }
}

void TraceWriter::write(Slot& slot) {
  const TraceRecord& record = slot.record;
  const bool lacks_forward =
      record.pass == Pass::kBackward && !output_.check().awaits_backward(record.step, record.layer);
  try {
    if (failure_ || lacks_forward) {
      num_dropped_.fetch_add(1, std::memory_order_relaxed);
    } else {
      output_.add(record);
    }
  } catch (const InputError& error) {
    num_dropped_.fetch_add(1, std::memory_order_relaxed);
    if (!std::exchange(has_warned_, true)) {
      log_warning("{}: a record that no reader would take is dropped, as others will be: {}", name_,
                  error.what());
    }
  } catch (const std::exception& error) {
    fail_once(error.what());
    num_dropped_.fetch_add(1, std::memory_order_relaxed);
  }
  // The memory of many large records would be held in the ring.
  if (slot.record.counts.allocated_bytes() > std::max(kMinKeptBytes, options_.queue_bytes / slots_.size())) {
    slot.record.counts = {};
  }
}

void TraceWriter::flush_if_due() {
  if (failure_ || output_.num_records() == num_flushed_) return;
  try {
    output_.write_pending();
    const auto now = std::chrono::steady_clock::now();
    if (now - flushed_at_ < options_.flush_interval) return;
    output_.flush();
    flushed_at_ = now;
    num_flushed_ = output_.num_records();
  } catch (const std::exception& error) {
    fail_once(error.what());
  }
}

void TraceWriter::fail_once(const std::string& reason) {
  failure_ = reason;
  log_warning("{}: no more records are written: {}", name_, reason);
}

TraceTrailer TraceWriter::close() {
  require<Error>(!is_closed_, "{}: was closed already", name_);
  is_closed_ = true;
  pushed_.fetch_or(kEnd, std::memory_order_release);
  thread_.join();
  if (!failure_) {
    try {
      return output_.close(num_dropped());
    } catch (const std::exception& error) {
      failure_ = error.what();
    }
  }
  fail<FileError>("{}: not all records were written: {}", name_, *failure_);
}

}  // namespace flex
