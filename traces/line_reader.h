#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "traces/byte_source.h"
#include "traces/trace_parse.h"

namespace flex {

/// Longest line that is read: more than the counts of 2,048 ranks with as many experts, all of them used.
inline constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

/// The lines of a source, one after the other. Holds one line and what was read with it.
class LineReader {
 public:
  /// @param file begins every message.
  LineReader(std::unique_ptr<ByteSource> source, std::string file,
             std::size_t max_line_bytes = kMaxLineBytes);

  /// The next line, valid until the next call; nothing after the last one.
  /// @throws InputError `FILE:LINE: ...` for a line that is too long, and for a damaged source; FileError.
  [[nodiscard]] std::optional<TraceLine> next();

  /// False for a last line without an end.
  [[nodiscard]] bool is_whole() const { return is_whole_; }
  /// Of the line that came last, from 1; 0 before the first.
  [[nodiscard]] std::int64_t number() const { return number_; }
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  [[nodiscard]] bool read_more();

  std::unique_ptr<ByteSource> source_;
  std::string file_;
  std::size_t max_line_bytes_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what was not given yet
  std::size_t end_ = 0;    // of what was read
  std::int64_t number_ = 0;
  bool is_whole_ = true;
};

}  // namespace flex
