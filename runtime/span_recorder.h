#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "profiler/mark_source.h"
#include "profiler/span.h"
#include "runtime/executor.h"

namespace flex {

/// One operation as it ran on one rank.
struct RecordedOperation {
  Operation operation;
  std::int32_t pass = 0;      ///< which of the schedules that ran since the start
  std::int32_t index = 0;     ///< in that schedule
  std::int64_t begin_ns = 0;  ///< its stream had come to it and all that it waits for was done
  std::int64_t end_ns = 0;    ///< on the host's steady clock, as begin_ns
};

/// Records when every operation of an executor begins and ends, where it runs: in its stream, or on the host
/// for host operations. A collective begins when its own rank has come to it. Allocates nothing once it has
/// recorded as many operations. Must live until what it recorded is done.
class SpanRecorder final : public ExecutionObserver {
 public:
  SpanRecorder(Device device, int rank);

  /// Forgets what was recorded. May wait for what `stream` holds.
  void start_blocking(Stream& stream);
  void before(const Schedule& schedule, std::size_t index, Stream& stream) override;
  void after(const Schedule& schedule, std::size_t index, Stream& stream) override;

  /// What ran since the start, in the order in which it was issued. The streams must have been synchronized;
  /// what a failed stream did not run is left out. Valid until the next start.
  [[nodiscard]] std::span<const RecordedOperation> recorded();
  /// The same as a timeline, with `origin_ns` of the host's steady clock as its zero.
  [[nodiscard]] std::vector<Span> spans(std::int64_t origin_ns, std::string_view process_group = "measured");

 private:
  void mark(StreamKind kind, Stream& stream);

  int rank_;
  Device device_;
  std::unique_ptr<MarkSource> marks_;
  std::int32_t pass_ = -1;
  std::vector<RecordedOperation> issued_;  // without times
  std::vector<RecordedOperation> recorded_;
};

}  // namespace flex
