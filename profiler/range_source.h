#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/stream.h"
#include "profiler/mark_source.h"
#include "profiler/span.h"
#include "profiler/work_id.h"

namespace flex {

/// When a piece of work ran, on the host's steady clock.
struct TimeRange {
  std::int64_t begin_ns = MarkSource::kNotReached;
  std::int64_t end_ns = MarkSource::kNotReached;

  friend bool operator==(const TimeRange&, const TimeRange&) = default;
};

/// What was seen from one RangeSource::start_blocking() to the next stop().
struct RangeRecording {
  std::vector<TimeRange> ranges;  ///< as ranges_blocking()
  std::vector<Span> details;      ///< as details()
};

/// Says when pieces of work began and ended. What that means depends on where it comes from
/// (docs/profiling.md): marks see the stream, with the gaps before the work; CUPTI sees the kernels. For the
/// thread that queues the work.
///
///     source->start_blocking(stream);
///     source->begin(id, &stream);   // queues
///     ...                           // queues the work, on this thread
///     source->end(&stream);
///     stream.synchronize_blocking();
///     for (const TimeRange& range : source->ranges_blocking()) ...
///
/// Or, where the thread must not wait for the device:
///
///     source->start_blocking(stream);
///     ...                           // as above
///     source->stop(stream);
///     ...                           // other work
///     while (auto recording = source->take_stopped()) ...   // perhaps none yet
class RangeSource {
 public:
  virtual ~RangeSource() = default;

  /// Forgets all ranges, but for those of recordings that stop() ended. May wait for what `stream` holds;
  /// CUPTI does not.
  virtual void start_blocking(Stream& stream) = 0;
  /// What this thread queues on `stream` until end() is work of `id`. Null: the host does it in between.
  /// Ranges do not nest, and `id` is not that of another range since the start, nor of a recording that is
  /// not taken yet.
  virtual void begin(const WorkId& id, Stream* stream) = 0;
  virtual void end(Stream* stream) = 0;
  /// One for each range since the start, in the order of the calls; kNotReached for what did not run or was
  /// not seen. The streams must have been synchronized. The ranks of a process call it alike, since their
  /// records are fetched together. Ends the recording. Valid until the next call.
  [[nodiscard]] virtual std::span<const TimeRange> ranges_blocking() = 0;
  /// Ends the recording without waiting for its work, of which nothing comes after what `stream` holds now.
  /// Its ranges are for take_stopped() alone. Without a recording nothing happens.
  virtual void stop(Stream& stream) = 0;
  /// The oldest recording that stop() ended, if all of it is there. Never waits: that may take a few
  /// iterations, and longer while another rank of the process records.
  [[nodiscard]] virtual std::optional<RangeRecording> take_stopped() = 0;
  /// The same, but waits for it. Nothing: none is left.
  [[nodiscard]] virtual std::optional<RangeRecording> take_stopped_blocking() = 0;
  /// What a span of this source has as its origin; `by_host` for a range without a stream.
  [[nodiscard]] virtual std::string_view origin(bool by_host) const = 0;
  /// Everything finer than the ranges that was seen since the start, e.g. each kernel. After
  /// ranges_blocking().
  [[nodiscard]] virtual std::vector<Span> details() const { return {}; }
  /// What a reader of the figures must know, e.g. how many records were lost. Empty: nothing.
  [[nodiscard]] virtual std::string remarks() const { return {}; }
};

/// Where ranges come from.
enum class RangeClock : std::uint8_t {
  kMarks,  ///< the host's clock in the streams of the CPU, events in those of a CUDA device
  kCupti,  ///< CUPTI's records
};

/// @throws DeviceError if the device cannot be used. Where CUPTI cannot be, it warns with the reason and
/// takes marks. `local_rank`: of the ranks in this process.
[[nodiscard]] std::unique_ptr<RangeSource> make_range_source(Device device, RangeClock clock, int rank,
                                                             int local_rank);

/// Takes one iteration in `every`, the first one too.
struct Sampling {
  std::int64_t every = 1;  ///< below 2: all

  [[nodiscard]] bool takes(std::int64_t iteration) const { return every < 2 || iteration % every == 0; }
};

}  // namespace flex
