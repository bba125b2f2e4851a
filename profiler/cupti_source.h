#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "profiler/cupti_session.h"
#include "profiler/range_source.h"

namespace flex {

/// Ranges from CUPTI's records: one begins with its first kernel, copy or memset and ends with its last,
/// whichever streams they ran on. What the host does is timed by its clock. A graph's launch is one range;
/// its nodes are in the details as the operations that they were captured for, if they were captured between
/// begin() and end() of any source, recording or not.
class CuptiSource final : public RangeSource {
 public:
  CuptiSource(std::shared_ptr<CuptiSession> session, int rank, int local_rank);
  ~CuptiSource() override;
  CuptiSource(const CuptiSource&) = delete;
  CuptiSource& operator=(const CuptiSource&) = delete;

  void start_blocking(Stream& stream) override;
  void begin(const WorkId& id,
             Stream* stream) override;  ///< id.local_rank is this source's, whatever it says
  void end(Stream* stream) override;
  [[nodiscard]] std::span<const TimeRange> ranges_blocking() override;
  [[nodiscard]] std::string_view origin(bool by_host) const override;
  /// One span for each kernel, copy and memset, on tracks `cuda:0 stream 7`; and, of local rank 0, one for
  /// each time that CUPTI was busy with itself, on the track `profiler`.
  [[nodiscard]] std::vector<Span> details() const override { return details_; }
  /// `CUPTI: 120 activities, 3 lost`, if anything is missing.
  [[nodiscard]] std::string remarks() const override;

 private:
  void place(const CuptiActivity& activity);

  std::shared_ptr<CuptiSession> session_;
  int rank_;
  int local_rank_;
  bool is_recording_ = false;
  bool is_open_ = false;  // between begin() and end()
  std::vector<TimeRange> ranges_;
  std::unordered_map<std::uint64_t, std::size_t> range_of_;  // by pack()
  std::vector<bool> by_host_;                                // by range
  std::vector<Span> details_;
  std::int64_t num_late_ = 0;  // records of an earlier recording
};

/// Ranges by CUPTI with the functions of `api`, or by the marks of `device` with a warning why. For
/// make_range_source() and its tests.
[[nodiscard]] std::unique_ptr<RangeSource> make_cupti_source(const cupti::Api& api,
                                                             const CuptiSettings& settings, Device device,
                                                             int rank, int local_rank);

}  // namespace flex
