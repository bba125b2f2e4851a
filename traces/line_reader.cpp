#include "traces/line_reader.h"

#include <cstring>

#include "base/require.h"

namespace flex {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 16;

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteSource> source, std::string file, std::size_t max_line_bytes)
    : source_(std::move(source)), file_(std::move(file)), max_line_bytes_(max_line_bytes) {}

// At least one byte more, if there is one.
bool LineReader::read_more() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  require(end_ <= max_line_bytes_, "{}:{}: the line is longer than {} bytes", file_, number_ + 1,
          max_line_bytes_);
  if (buffer_.size() < end_ + kBlockBytes) buffer_.resize(2 * end_ + kBlockBytes);
  std::size_t count = 0;
  try {
    count = source_->read(std::span(buffer_).subspan(end_));
  } catch (const InputError& error) {
    fail("{}:{}: {}", file_, number_ + 1, error.what());
  }
  end_ += count;
  return count > 0;
}

std::optional<TraceLine> LineReader::next() {
  std::size_t searched = begin_;
  const char* found = nullptr;
  while (true) {
    if (searched < end_) {
      found = static_cast<const char*>(std::memchr(buffer_.data() + searched, '\n', end_ - searched));
    }
    if (found != nullptr) break;
    const std::size_t length = end_ - begin_;
    if (!read_more()) break;
    searched = begin_ + length;
  }
  if (found == nullptr && begin_ == end_) return std::nullopt;
  is_whole_ = found != nullptr;
  const std::size_t line_end = is_whole_ ? static_cast<std::size_t>(found - buffer_.data()) : end_;
  const std::string_view text(buffer_.data() + begin_, line_end - begin_);
  require(text.size() <= max_line_bytes_, "{}:{}: the line is longer than {} bytes", file_, number_ + 1,
          max_line_bytes_);
  begin_ = is_whole_ ? line_end + 1 : end_;
  ++number_;
  return TraceLine{.text = text, .file = file_, .number = number_};
}

}  // namespace flex
