#include "traces/trace_reader.h"

#include "base/require.h"

namespace flex {

TraceReader::TraceReader(const std::filesystem::path& path, TraceDamage on_damage)
    : TraceReader(open_text_source(path), path.string(), on_damage) {}

TraceReader::TraceReader(std::unique_ptr<ByteSource> source, std::string file, TraceDamage on_damage,
                         std::size_t max_line_bytes)
    : lines_(std::move(source), std::move(file), max_line_bytes), on_damage_(on_damage) {
  read_header();
  check_ = std::make_unique<TraceCheck>(*header_);
}

void TraceReader::read_header() {
  const std::optional<TraceLine> line = lines_.next();
  require(line.has_value(), "{}: is empty; the first line of a routing trace is its header", lines_.file());
  constexpr std::string_view kGzipMagic = "\x1f\x8b";
  require(!line->text.starts_with(kGzipMagic), "{}: is gzip data; its name must then end in .gz",
          lines_.file());
  header_ = std::make_unique<const TraceHeader>(parse_trace_header(*line));
}

bool TraceReader::next(TraceRecord& record) {
  if (trailer_ || damage_) return false;
  try {
    return read_record(record);
  } catch (const InputError& error) {
    if (on_damage_ == TraceDamage::kThrow) throw;
    damage_ = error.what();
    return false;
  }
}

bool TraceReader::read_record(TraceRecord& record) {
  const std::optional<TraceLine> line = lines_.next();
  require(line.has_value(), "{}:{}: there is no trailer; the file was cut off, or is still being written",
          lines_.file(), lines_.number() + 1);
  ParsedLine parsed;
  try {
    parsed = parse_trace_line(*line, record);
  } catch (const InputError& error) {
    if (lines_.is_whole()) throw;
    fail("{}:{}: the line is cut off", line->file, line->number);
  }
  if (parsed.is_trailer) {
    finish(*line, parsed.trailer);
    return false;
  }
  check_record(*line, record);
  ++num_records_;
  return true;
}

void TraceReader::check_record(const TraceLine& line, const TraceRecord& record) {
  try {
    check_->add(record);
  } catch (const InputError& error) {
    fail("{}:{}: {}", line.file, line.number, error.what());
  }
}

void TraceReader::finish(const TraceLine& line, const TraceTrailer& trailer) {
  require(trailer.num_records == num_records_, "{}:{}: records: is {}; there are {}", line.file, line.number,
          trailer.num_records, num_records_);
  const std::int64_t last = line.number;
  require(!lines_.next(), "{}:{}: something comes after the trailer, which is the last line", lines_.file(),
          last + 1);
  trailer_ = trailer;
}

}  // namespace flex
