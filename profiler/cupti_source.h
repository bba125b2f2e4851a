#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/event.h"
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
  /// Waits for the work of recordings that are not taken, and lets their records go.
  ~CuptiSource() override;
  CuptiSource(const CuptiSource&) = delete;
  CuptiSource& operator=(const CuptiSource&) = delete;

  void start_blocking(Stream& stream) override;
  void begin(const WorkId& id,
             Stream* stream) override;  ///< id.local_rank is this source's, whatever it says
  void end(Stream* stream) override;
  [[nodiscard]] std::span<const TimeRange> ranges_blocking() override;
  void stop(Stream& stream) override;
  [[nodiscard]] std::optional<RangeRecording> take_stopped() override;
  [[nodiscard]] std::optional<RangeRecording> take_stopped_blocking() override;
  [[nodiscard]] std::string_view origin(bool by_host) const override;
  /// One span for each kernel, copy and memset, on tracks `cuda:0 stream 7`; and, of local rank 0, one for
  /// each time that CUPTI was busy with itself, on the track `profiler`. Made when they are asked for.
  [[nodiscard]] std::vector<Span> details() const override { return spans_of(last_); }
  /// `CUPTI: 120 activities, 3 lost`, if anything is missing.
  [[nodiscard]] std::string remarks() const override;

 private:
  struct Recording {
    std::vector<TimeRange> ranges;
    std::unordered_map<std::uint64_t, std::size_t> range_of;  // by pack()
    std::vector<bool> by_host;                                // by range
    std::vector<CuptiActivity> activities;
    std::vector<CuptiOverhead> overheads;

    bool place(CuptiActivity& activity);  // false: it is not of this recording
  };
  struct Stopped {
    Recording recording;
    Event done;              // behind all of its work
    std::int64_t fetch = 0;  // number of the fetch that brings its records; 0: its work may still run
    bool is_whole = false;   // its records are here
  };

  void ask_for_done();
  void ask_for_all_blocking();
  void place_records();
  RangeRecording take_oldest();
  [[nodiscard]] std::vector<Span> spans_of(const Recording& recording) const;
  const std::string& demangled(const std::string& name) const;

  std::shared_ptr<CuptiSession> session_;
  int rank_;
  int local_rank_;
  bool is_recording_ = false;
  bool is_open_ = false;                                        // between begin() and end()
  Recording last_;                                              // that records, or was read
  std::deque<Stopped> stopped_;                                 // oldest first
  std::int64_t num_late_ = 0;                                   // records of a recording that is gone
  mutable std::unordered_map<std::string, std::string> names_;  // of kernels, as people write them
};

/// Ranges by CUPTI with the functions of `api`, or by the marks of `device` with a warning why. For
/// make_range_source() and its tests.
[[nodiscard]] std::unique_ptr<RangeSource> make_cupti_source(const cupti::Api& api,
                                                             const CuptiSettings& settings, Device device,
                                                             int rank, int local_rank);

}  // namespace flex
