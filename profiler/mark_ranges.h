#pragma once

#include <memory>
#include <vector>

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
  [[nodiscard]] std::string_view origin(bool by_host) const override;

 private:
  void mark(Stream* stream);

  bool is_cpu_;
  std::unique_ptr<MarkSource> marks_;
  std::vector<TimeRange> ranges_;
};

}  // namespace flex
