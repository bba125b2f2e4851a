#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "kernels/event.h"
#include "profiler/range_source.h"

namespace flex {

/// Ranges between two marks of a stream. A range begins when its stream has come to it and all that it waits
/// for is done. Allocates nothing once it has held as many ranges.
class MarkRanges final : public RangeSource {
 public:
  explicit MarkRanges(Device device);

  void start_blocking(Stream& stream) override;
  void begin(const WorkId& id, Stream* stream) override;
  void end(Stream* stream) override;
  [[nodiscard]] std::span<const TimeRange> ranges_blocking() override;
  void stop(Stream& stream) override;
  [[nodiscard]] std::optional<RangeRecording> take_stopped() override;
  [[nodiscard]] std::optional<RangeRecording> take_stopped_blocking() override;
  [[nodiscard]] std::string_view origin(bool by_host) const override;

 private:
  struct Stopped {
    std::unique_ptr<MarkSource> marks;
    Event done;
  };
  void mark(Stream* stream);
  RangeRecording take_oldest();

  Device device_;
  std::unique_ptr<MarkSource> marks_;
  bool is_recording_ = false;
  std::deque<Stopped> stopped_;
  std::vector<std::unique_ptr<MarkSource>> spare_;  // of recordings that were taken
  std::vector<TimeRange> ranges_;
};

}  // namespace flex
