#include "profiler/cupti_source.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/require.h"
#include "profiler/mark_ranges.h"

namespace flex {
namespace {

constexpr const char* kProcessGroup = "measured";
constexpr const char* kOrigin = "cupti";

// A kernel's name as a person writes it, or as it is.
std::string demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : name;
}

Span span_of(const CuptiActivity& activity, const std::string& name, int rank) {
  return {.name = name,
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
    while (take_stopped_blocking()) {
    }
  } catch (const std::exception& error) {
    log_warning("profiler: {}", error.what());
  }
}

void CuptiSource::start_blocking(Stream& /*stream*/) {
  if (is_open_) end(nullptr);  // what was queued in it threw
  if (is_recording_) static_cast<void>(ranges_blocking());
  last_ = {};
  session_->start_recording_blocking();
  is_recording_ = true;
}

void CuptiSource::begin(const WorkId& id, Stream* stream) {
  require(!is_open_, "profiler: a range begins inside another");
  WorkId own = id;
  own.local_rank = local_rank_;
  const std::uint64_t packed = pack(own);
  for (const Stopped& stopped : stopped_) {
    require(!is_recording_ || !stopped.recording.range_of.contains(packed),
            "profiler: iteration {} is recorded again before its first recording was taken", id.iteration);
  }
  session_->push(own, is_recording_);
  is_open_ = true;
  if (!is_recording_) return;
  last_.range_of.emplace(packed, last_.ranges.size());
  last_.by_host.push_back(stream == nullptr);
  last_.ranges.emplace_back();
  if (stream == nullptr) last_.ranges.back().begin_ns = steady_now_ns();
}

void CuptiSource::end(Stream* stream) {
  require(is_open_, "profiler: a range ends that has not begun");
  is_open_ = false;
  if (is_recording_ && stream == nullptr) last_.ranges.back().end_ns = steady_now_ns();
  session_->pop();
}

std::span<const TimeRange> CuptiSource::ranges_blocking() {
  if (!std::exchange(is_recording_, false)) return last_.ranges;
  ask_for_all_blocking();  // a forced flush brings theirs as well
  session_->collect_blocking();
  for (Stopped& stopped : stopped_) stopped.is_whole = true;
  place_records();
  return last_.ranges;
}

void CuptiSource::stop(Stream& stream) {
  if (!is_recording_) return;
  Stopped stopped{.recording = {}, .done = Event(stream.device())};
  stream.record(stopped.done);
  is_recording_ = false;
  stopped.recording = std::exchange(last_, {});
  stopped_.push_back(std::move(stopped));
  session_->stop_recording();
}

std::optional<RangeRecording> CuptiSource::take_stopped() {
  ask_for_done();
  if (stopped_.empty()) return std::nullopt;
  Stopped& oldest = stopped_.front();
  if (!oldest.is_whole) {
    if (oldest.fetch == 0 || !session_->has_fetched(oldest.fetch)) return std::nullopt;
    oldest.is_whole = true;
    place_records();
  }
  return take_oldest();
}

std::optional<RangeRecording> CuptiSource::take_stopped_blocking() {
  if (stopped_.empty()) return std::nullopt;
  ask_for_all_blocking();
  Stopped& oldest = stopped_.front();
  if (!oldest.is_whole) {
    session_->wait_fetched_blocking(oldest.fetch);
    oldest.is_whole = true;
    place_records();
  }
  return take_oldest();
}

void CuptiSource::ask_for_done() {
  for (Stopped& stopped : stopped_) {
    if (stopped.fetch != 0) continue;
    if (!stopped.done.done()) return;  // nor are those after it
    stopped.fetch = session_->fetch();
  }
}

void CuptiSource::ask_for_all_blocking() {
  std::exception_ptr failure;
  for (Stopped& stopped : stopped_) {
    if (stopped.fetch != 0) continue;
    try {
      stopped.done.wait_blocking();
    } catch (...) {  // what a failed stream has run has its records all the same
      failure = std::current_exception();
    }
    stopped.fetch = session_->fetch();
  }
  if (failure != nullptr) std::rethrow_exception(failure);
}

// Records of recordings that are not whole stay with the session until these are: a kernel's record may come
// after that of its call.
void CuptiSource::place_records() {
  const auto is_unfinished = [&](std::uint64_t id) {
    return (is_recording_ && last_.range_of.contains(id)) ||
           std::ranges::any_of(stopped_, [&](const Stopped& stopped) {
             return !stopped.is_whole && stopped.recording.range_of.contains(id);
           });
  };
  for (CuptiActivity& activity : session_->take(local_rank_, is_unfinished)) {
    const auto takes = [&](Stopped& stopped) {
      return stopped.is_whole && stopped.recording.place(activity);
    };
    if (!last_.place(activity) && !std::ranges::any_of(stopped_, takes)) ++num_late_;
  }
  if (local_rank_ != 0) return;
  const bool for_last = stopped_.empty() || !stopped_.front().is_whole;
  Recording& shown_with = for_last ? last_ : stopped_.front().recording;
  std::ranges::move(session_->take_overheads(), std::back_inserter(shown_with.overheads));
}

bool CuptiSource::Recording::place(CuptiActivity& activity) {
  const auto found = range_of.find(pack(activity.launch));
  if (found == range_of.end()) return false;
  if (!by_host[found->second]) {
    TimeRange& range = ranges[found->second];
    const bool is_first = range.end_ns == MarkSource::kNotReached;
    range.begin_ns = is_first ? activity.begin_ns : std::min(range.begin_ns, activity.begin_ns);
    range.end_ns = std::max(range.end_ns, activity.end_ns);
  }
  activities.push_back(std::move(activity));
  return true;
}

RangeRecording CuptiSource::take_oldest() {
  Recording recording = std::move(stopped_.front().recording);
  stopped_.pop_front();
  std::vector<Span> details = spans_of(recording);
  return {.ranges = std::move(recording.ranges), .details = std::move(details)};
}

std::vector<Span> CuptiSource::spans_of(const Recording& recording) const {
  std::vector<Span> spans;
  spans.reserve(recording.activities.size() + recording.overheads.size());
  for (const CuptiActivity& activity : recording.activities) {
    const bool is_kernel = activity.kind == CuptiActivity::Kind::kKernel;
    spans.push_back(span_of(activity, is_kernel ? demangled(activity.name) : activity.name, rank_));
  }
  for (const CuptiOverhead& overhead : recording.overheads) spans.push_back(span_of(overhead, rank_));
  return spans;
}

const std::string& CuptiSource::demangled(const std::string& name) const {
  const auto [place, is_new] = names_.try_emplace(name);
  if (is_new) place->second = demangle(name);
  return place->second;
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
