#include "profiler/chrome_trace.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::int64_t kNsPerUs = 1000;

/// A stream's tracks: more than one where its spans overlap.
struct Tracks {
  std::size_t order = 0;             // of first appearance in the process
  std::vector<std::int64_t> end_ns;  // by track, of its last span
  std::vector<std::int64_t> ids;     // by track
};

struct Process {
  std::int64_t id = 0;
  std::map<std::string, Tracks, std::less<>> streams;
};

std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail("trace: the name {} is not UTF-8", quote_name(text));
  }
}

/// Writes events; the first of the file has no comma before it.
class Writer {
 public:
  explicit Writer(const std::filesystem::path& path) : file_(path) {
    file_.write(std::string_view("{\"displayTimeUnit\":\"ns\",\"traceEvents\":["));
  }

  void metadata(std::string_view what, std::int64_t process, std::int64_t track, const std::string& args) {
    start_event();
    fmt::format_to(std::back_inserter(line_), R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":{{{}}}}})",
                   what, process, track, args);
    file_.write(line_);
  }

  void complete(const Span& span, std::int64_t process, std::int64_t track) {
    start_event();
    const std::int64_t duration_ns = span.end_ns - span.begin_ns;
    auto out = std::back_inserter(line_);
    fmt::format_to(out, R"({{"ph":"X","name":{},"cat":{},"pid":{},"tid":{},"ts":)", quoted(span.name),
                   quoted(span.process_group), process, track);
    write_us(span.begin_ns);
    line_ += ",\"dur\":";
    write_us(duration_ns);
    line_ += ",\"args\":{";
    const char* comma = "";
    const auto number = [&](std::string_view key, auto value, bool applies) {
      if (!applies) return;
      fmt::format_to(out, "{}\"{}\":{}", std::exchange(comma, ","), key, value);
    };
    number("iteration", span.iteration, span.iteration >= 0);
    number("layer", span.layer, span.layer >= 0);
    number("pass", span.pass, span.pass >= 0);
    number("operation", span.operation, span.operation >= 0);
    number("chunk", span.chunk, span.chunk >= 0);
    number("bytes", span.bytes, span.bytes != 0);
    number("flops", span.flops, span.flops != 0);
    if (!span.origin.empty()) fmt::format_to(out, "{}\"origin\":{}", comma, quoted(span.origin));
    line_ += "}}";
    file_.write(line_);
  }

  void finish() {
    file_.write(std::string_view("\n]}\n"));
    file_.commit();
  }

 private:
  void start_event() { line_ = std::exchange(first_, false) ? "\n" : ",\n"; }
  void write_us(std::int64_t ns) {
    const char* sign = ns < 0 ? "-" : "";
    const std::int64_t magnitude = ns < 0 ? -ns : ns;
    fmt::format_to(std::back_inserter(line_), "{}{}.{:03}", sign, magnitude / kNsPerUs, magnitude % kNsPerUs);
  }

  AtomicFile file_;
  std::string line_;
  bool first_ = true;
};

/// Hands out processes and tracks. Identifiers start at 1 and are unique over the file: a process 0 is the
/// idle one, and a track's identifier names its thread.
class Layout {
 public:
  explicit Layout(std::span<const Span> spans) {
    for (const Span& span : spans) {
      require(span.end_ns >= span.begin_ns, "trace: {} on rank {} ends {} ns before it begins", span.name,
              span.rank, span.begin_ns - span.end_ns);
      if (std::ranges::find(groups_, span.process_group) == groups_.end()) {
        groups_.push_back(span.process_group);
      }
      Process& process = processes_[{group_of(span), span.rank}];
      const std::size_t order = process.streams.size();
      process.streams.try_emplace(span.stream, Tracks{.order = order});
    }
    for (auto& [key, process] : processes_) process.id = next_id_++;
  }

  Process& process_of(const Span& span) { return processes_.at({group_of(span), span.rank}); }

  // The first track of the span's stream that is free. Spans come in the order in which they begin.
  std::int64_t track_of(const Span& span) {
    Tracks& tracks = process_of(span).streams.at(span.stream);
    const auto free = std::ranges::find_if(tracks.end_ns, [&](auto end) { return end <= span.begin_ns; });
    const auto track = static_cast<std::size_t>(free - tracks.end_ns.begin());
    if (free == tracks.end_ns.end()) {
      tracks.end_ns.push_back(0);
      tracks.ids.push_back(next_id_++);
    }
    tracks.end_ns[track] = span.end_ns;
    return tracks.ids[track];
  }

  void write_names(Writer& writer) const {
    for (const auto& [key, process] : processes_) {
      const std::string name = fmt::format("{} rank {}", groups_[key.first], key.second);
      writer.metadata("process_name", process.id, 0, "\"name\":" + quoted(name));
      writer.metadata("process_sort_index", process.id, 0, fmt::format("\"sort_index\":{}", process.id));
      for (const auto& [stream, tracks] : process.streams) {
        for (std::size_t i = 0; i < tracks.ids.size(); ++i) {
          const std::string track = i == 0 ? stream : fmt::format("{} ({})", stream, i + 1);
          writer.metadata("thread_name", process.id, tracks.ids[i], "\"name\":" + quoted(track));
          writer.metadata("thread_sort_index", process.id, tracks.ids[i],
                          fmt::format("\"sort_index\":{}", tracks.order));
        }
      }
    }
  }

 private:
  [[nodiscard]] std::size_t group_of(const Span& span) const {
    return static_cast<std::size_t>(std::ranges::find(groups_, span.process_group) - groups_.begin());
  }

  std::vector<std::string> groups_;
  std::map<std::pair<std::size_t, std::int32_t>, Process> processes_;
  std::int64_t next_id_ = 1;
};

}  // namespace

void write_chrome_trace(const std::filesystem::path& path, std::span<const Span> spans) {
  Layout layout(spans);
  std::vector<const Span*> ordered;
  ordered.reserve(spans.size());
  for (const Span& span : spans) ordered.push_back(&span);
  std::ranges::sort(ordered, {}, [](const Span* span) { return std::pair(span->begin_ns, span); });
  std::vector<std::int64_t> tracks;
  tracks.reserve(spans.size());
  for (const Span* span : ordered) tracks.push_back(layout.track_of(*span));

  Writer writer(path);
  layout.write_names(writer);
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    writer.complete(*ordered[i], layout.process_of(*ordered[i]).id, tracks[i]);
  }
  writer.finish();
}

}  // namespace flex
