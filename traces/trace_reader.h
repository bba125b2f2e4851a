#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "traces/line_reader.h"
#include "traces/routing_trace.h"
#include "traces/trace_check.h"

namespace flex {

/// What becomes of a file that is cut off or damaged.
enum class TraceDamage : std::uint8_t {
  kThrow,  ///< an InputError at the damage
  kStop,   ///< the records before it are all there are; damage() says what was found
};

/// Reads a trace record by record. Holds one line and one record, however long the file.
///
///     TraceReader reader("run.jsonl.gz", TraceDamage::kStop);
///     TraceRecord record;
///     while (reader.next(record)) ...;
///     if (reader.damage()) log_warning("{}", *reader.damage());
///
/// What comes out is checked (TraceCheck): it can be replayed. Messages are `FILE:LINE: FIELD: what is there;
/// what would be right`. A file whose header cannot be read is an error either way.
class TraceReader {
 public:
  /// Unpacks a file whose name ends in .gz.
  /// @throws FileError; InputError for a header that is missing, wrong or of another version.
  explicit TraceReader(const std::filesystem::path& path, TraceDamage on_damage = TraceDamage::kThrow);
  /// @param file begins every message.
  TraceReader(std::unique_ptr<ByteSource> source, std::string file,
              TraceDamage on_damage = TraceDamage::kThrow, std::size_t max_line_bytes = kMaxLineBytes);

  [[nodiscard]] const TraceHeader& header() const { return *header_; }

  /// Overwrites `record`, whose memory is used again; false at the end.
  /// @throws InputError with kThrow for a damaged or cut file; FileError.
  [[nodiscard]] bool next(TraceRecord& record);

  /// After the end of a whole file.
  [[nodiscard]] const std::optional<TraceTrailer>& trailer() const { return trailer_; }
  /// With kStop, after the end of a file that is not whole: `FILE:LINE: ...`.
  [[nodiscard]] const std::optional<std::string>& damage() const { return damage_; }
  [[nodiscard]] std::int64_t num_records() const { return num_records_; }
  /// Of the record that came last.
  [[nodiscard]] std::int64_t line() const { return lines_.number(); }

 private:
  void read_header();
  [[nodiscard]] bool read_record(TraceRecord& record);
  void check_record(const TraceLine& line, const TraceRecord& record);
  void finish(const TraceLine& line, const TraceTrailer& trailer);

  LineReader lines_;
  TraceDamage on_damage_;
  std::unique_ptr<const TraceHeader> header_;  // where check_ can point to it
  std::unique_ptr<TraceCheck> check_;
  std::optional<TraceTrailer> trailer_;
  std::optional<std::string> damage_;
  std::int64_t num_records_ = 0;
};

}  // namespace flex
