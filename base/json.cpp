#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "base/atomic_file.h"
#include "base/read_file.h"
#include "base/require.h"

namespace flex {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{256} << 20;
constexpr std::size_t kMaxQuotedBytes = 80;
constexpr std::size_t kMaxReasonBytes = 200;

// Walks the text and tells how far the parser has come, which is where an error is: nlohmann_json does not
// say it for the events of a callback.
class TrackingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  TrackingIterator& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  bool operator==(const TrackingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

std::string line_and_column(std::string_view text, const char* position) {
  const auto consumed = static_cast<std::size_t>(position - text.data());
  const std::string_view before =
      text.substr(0, consumed == 0 ? 0 : consumed - 1);  // up to the last character read
  const auto newline = before.rfind('\n');
  const auto column = newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return fmt::format("{}:{}", std::count(before.begin(), before.end(), '\n') + 1, column + 1);
}

// "[json.exception.parse_error.101] parse error at line 1, column 5: REASON", or "[...] REASON".
std::string reason_of(const nlohmann::json::exception& error) {
  std::string reason = error.what();
  if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
  if (reason.starts_with("parse error at ")) {
    if (const auto end = reason.find(": "); end != std::string::npos) reason.erase(0, end + 2);
  }
  if (reason.size() > kMaxReasonBytes) reason = reason.substr(0, kMaxReasonBytes) + "...";
  // It quotes the text read last, which may be what is not UTF-8.
  std::replace_if(
      reason.begin(), reason.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
  return reason;
}

void require_finite(const nlohmann::json& value, const std::filesystem::path& path) {
  if (value.is_number_float()) {
    require(std::isfinite(value.get<double>()), "{}: JSON has no number for {}", path.string(),
            value.get<double>());
  } else if (value.is_structured()) {
    for (const auto& child : value) require_finite(child, path);
  }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view where) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* furthest = begin;
  // nlohmann_json takes a zero byte for the end of the text and would ignore what follows.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
    fail("{}:{}: zero byte in JSON text", where, line_and_column(text, begin + zero + 1));
  }
  std::vector<std::unordered_set<std::string>> open_keys;  // of each object around the place reached
  const auto check_event = [&](int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      require(depth < kMaxJsonDepth, "{}:{}: nested deeper than {} levels", where,
              line_and_column(text, furthest), kMaxJsonDepth);
    }
    if (event == Event::object_start) open_keys.emplace_back();
    if (event == Event::object_end) open_keys.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      require(open_keys.back().insert(key).second, "{}:{}: duplicate key {}", where,
              line_and_column(text, furthest), quote_name(key));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(TrackingIterator(begin, &furthest), TrackingIterator(end, &furthest),
                                 check_event);
  } catch (const nlohmann::json::exception& error) {
    fail("{}:{}: {}", where, line_and_column(text, furthest), reason_of(error));
  }
}

nlohmann::json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path, kMaxFileBytes), path.string());
}

void write_json_file(const std::filesystem::path& path, const nlohmann::json& value) {
  require_finite(value, path);
  std::string text;
  try {
    text = value.dump(2);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: {}", path.string(), reason_of(error));
  }
  text += '\n';
  write_file_atomically(path, text);
}

bool is_utf8(std::string_view text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

std::string quote_name(std::string_view text) {
  const bool whole = text.size() <= kMaxQuotedBytes;
  const nlohmann::json string = std::string(text.substr(0, kMaxQuotedBytes)) + (whole ? "" : "...");
  return string.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace flex
