#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/nvtx_range.h"
#include "profiler/range_source.h"
#include "profiler/span.h"
#include "runtime/executor.h"

namespace flex {

/// One operation as it ran on one rank.
struct RecordedOperation {
  Operation operation;
  std::int32_t pass = 0;   ///< which of the schedules since set_place() or the start
  std::int32_t index = 0;  ///< in that schedule
  std::int64_t iteration = -1;
  std::int32_t layer = -1;
  std::int64_t begin_ns =
      0;  ///< its stream had come to it and all that it waits for was done; CUPTI: its work began
  std::int64_t end_ns = 0;  ///< on the host's steady clock, as begin_ns
};

/// What SpanRecorder saw from a start to the next stop().
struct SpanRecording {
  std::vector<RecordedOperation> operations;  ///< as SpanRecorder::issued()
  std::vector<Span> details;                  ///< what the source saw finer than that, on the steady clock
};

/// Records when every operation of an executor begins and ends, where it runs: in its stream, or on the host
/// for host operations. A collective begins when its own rank has come to it. Each is also a range of NVTX
/// while it is queued. Allocates nothing once it has recorded as many operations, unless its source does.
/// Must live until what it recorded is done.
class SpanRecorder final : public ExecutionObserver {
 public:
  /// By marks of `device`.
  SpanRecorder(Device device, int rank);
  /// By `source`, e.g. of make_range_source().
  SpanRecorder(std::unique_ptr<RangeSource> source, int rank);

  /// What runs from now on is of this iteration and layer, -1: none, and its passes count from 0. CUPTI tells
  /// kMaxWorkId.pass + 1 of them apart.
  void set_place(std::int64_t iteration, std::int32_t layer);
  /// Forgets what was recorded, but for recordings that stop() ended. As RangeSource::start_blocking().
  void start_blocking(Stream& stream);
  void before(const Schedule& schedule, std::size_t index, Stream& stream) override;
  void after(const Schedule& schedule, std::size_t index, Stream& stream) override;

  /// Ends the recording without waiting for its work, of which nothing comes after what `stream` holds now.
  /// Nothing happens without a start, or after its times were read. Until the next start nothing is recorded,
  /// and the iterations of recordings that are not taken differ.
  void stop(Stream& stream);
  /// The oldest recording that stop() ended, if all of it is there; never waits. For the thread that queues,
  /// between passes.
  [[nodiscard]] std::optional<SpanRecording> take_stopped();
  /// The same, but waits for it. Nothing: none is left.
  [[nodiscard]] std::optional<SpanRecording> take_stopped_blocking();

  /// What ran since the start, in the order in which it was issued. The streams must have been synchronized;
  /// what a failed stream did not run, or the source did not see, is left out. Valid until the next start.
  [[nodiscard]] std::span<const RecordedOperation> recorded();
  /// The same with what the source did not see, whose times are MarkSource::kNotReached: equal lists for
  /// equal schedules.
  [[nodiscard]] std::span<const RecordedOperation> issued();
  /// recorded() as a timeline, with `origin_ns` of the host's steady clock as its zero.
  [[nodiscard]] std::vector<Span> spans(std::int64_t origin_ns, std::string_view process_group = "measured");
  /// What the source saw finer than that, e.g. each kernel, on the same clock. After recorded() or spans().
  [[nodiscard]] std::vector<Span> details(std::int64_t origin_ns,
                                          std::string_view process_group = "measured") const;
  /// RangeSource::remarks().
  [[nodiscard]] std::string remarks() const { return source_->remarks(); }

 private:
  SpanRecording joined(RangeRecording ranges);

  int rank_;
  std::unique_ptr<RangeSource> source_;
  bool is_started_ = false;  // until it is stopped or read
  bool is_stopped_ = false;  // until it is started
  std::int64_t iteration_ = -1;
  std::int32_t layer_ = -1;
  std::int32_t pass_ = -1;
  std::optional<NvtxRange> nvtx_;  // of the operation that is being queued
  std::vector<RecordedOperation> issued_;
  std::vector<RecordedOperation> recorded_;
  std::deque<std::vector<RecordedOperation>> stopped_;  // issued, oldest first
};

}  // namespace flex
