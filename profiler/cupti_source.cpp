#include "profiler/cupti_source.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "profiler/mark_ranges.h"

namespace flex {
namespace {

constexpr const char* kProcessGroup = "measured";
constexpr const char* kOrigin = "cupti";

// A kernel's name as a person writes it, or as it is.
std::string demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : name;
}

Span span_of(const CuptiActivity& activity, int rank) {
  const bool is_kernel = activity.kind == CuptiActivity::Kind::kKernel;
  return {.name = is_kernel ? demangled(activity.name) : activity.name,
          .process_group = kProcessGroup,
          .rank = rank,
          .stream = fmt::format("cuda:{} stream {}", activity.device, activity.stream),
          .begin_ns = activity.begin_ns,
          .end_ns = activity.end_ns,
          .iteration = activity.work.iteration,
          .layer = activity.work.layer,
          .pass = activity.work.pass,
          .operation = activity.work.operation,
          .chunk = activity.work.chunk,
          .bytes = activity.bytes,
          .origin = kOrigin};
}

Span span_of(const CuptiOverhead& overhead, int rank) {
  return {.name = overhead.name,
          .process_group = kProcessGroup,
          .rank = rank,
          .stream = "profiler",
          .begin_ns = overhead.begin_ns,
          .end_ns = overhead.end_ns,
          .origin = kOrigin};
}

}  // namespace

CuptiSource::CuptiSource(std::shared_ptr<CuptiSession> session, int rank, int local_rank)
    : session_(std::move(session)), rank_(rank), local_rank_(local_rank) {
  require(local_rank >= 0 && local_rank <= kMaxWorkId.local_rank,
          "CUPTI's records tell {} ranks of a process apart; this one is {}", kMaxWorkId.local_rank + 1,
          local_rank);
}

CuptiSource::~CuptiSource() {
  try {
    if (is_open_) end(nullptr);
    if (is_recording_) static_cast<void>(ranges_blocking());
  } catch (const std::exception& error) {
    log_warning("profiler: {}", error.what());
  }
}

void CuptiSource::start_blocking(Stream& /*stream*/) {
  if (is_open_) end(nullptr);  // what was queued in it threw
  if (is_recording_) static_cast<void>(ranges_blocking());
  ranges_.clear();
  range_of_.clear();
  by_host_.clear();
  details_.clear();
  session_->start_recording_blocking();
  is_recording_ = true;
}

void CuptiSource::begin(const WorkId& id, Stream* stream) {
  require(!is_open_, "profiler: a range begins inside another");
  WorkId own = id;
  own.local_rank = local_rank_;
  session_->push(own);
  is_open_ = true;
  if (!is_recording_) return;
  range_of_.emplace(pack(own), ranges_.size());
  by_host_.push_back(stream == nullptr);
  ranges_.emplace_back();
  if (stream == nullptr) ranges_.back().begin_ns = steady_now_ns();
}

void CuptiSource::end(Stream* stream) {
  require(is_open_, "profiler: a range ends that has not begun");
  is_open_ = false;
  if (is_recording_ && stream == nullptr) ranges_.back().end_ns = steady_now_ns();
  session_->pop();
}

std::span<const TimeRange> CuptiSource::ranges_blocking() {
  if (!std::exchange(is_recording_, false)) return ranges_;
  session_->collect_blocking();
  for (const CuptiActivity& activity : session_->take(local_rank_)) place(activity);
  if (local_rank_ == 0) {
    for (const CuptiOverhead& overhead : session_->take_overheads()) {
      details_.push_back(span_of(overhead, rank_));
    }
  }
  return ranges_;
}

void CuptiSource::place(const CuptiActivity& activity) {
  const auto found = range_of_.find(pack(activity.launch));
  if (found == range_of_.end()) {  // it came after its own recording was collected
    ++num_late_;
    return;
  }
  details_.push_back(span_of(activity, rank_));
  if (by_host_[found->second]) return;
  TimeRange& range = ranges_[found->second];
  const bool is_first = range.end_ns == MarkSource::kNotReached;
  range.begin_ns = is_first ? activity.begin_ns : std::min(range.begin_ns, activity.begin_ns);
  range.end_ns = std::max(range.end_ns, activity.end_ns);
}

std::string_view CuptiSource::origin(bool by_host) const { return by_host ? "host_clock" : kOrigin; }

std::string CuptiSource::remarks() const {
  const CuptiCounts counts = session_->counts();
  const bool is_whole = counts.lost + counts.without_times + counts.too_short + counts.unknown +
                            counts.contradicted + num_late_ ==
                        0;
  if (is_whole) return {};
  std::string text = "CUPTI: " + to_string(counts);
  if (num_late_ > 0) text += fmt::format(", {} too late", num_late_);
  return text;
}

std::unique_ptr<RangeSource> make_cupti_source(const cupti::Api& api, const CuptiSettings& settings,
                                               Device device, int rank, int local_rank) {
  auto session = CuptiSession::join_blocking(api, settings);
  if (auto* running = std::get_if<std::shared_ptr<CuptiSession>>(&session)) {
    return std::make_unique<CuptiSource>(std::move(*running), rank, local_rank);
  }
  auto marks = std::make_unique<MarkRanges>(device);
  log_warning("profiler: {}; using {} instead of CUPTI", std::get<std::string>(session),
              marks->origin(false));
  return marks;
}

}  // namespace flex
