#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include "base/json.h"
#include "base/require.h"
#include "traces/trace_parse.h"

namespace flex {

/// Walks over the JSON of one line. Every error is an InputError `FILE:LINE: FIELD: is X; it must be Y`.
class JsonCursor {
 public:
  explicit JsonCursor(const TraceLine& line)
      : line_(line), at_(line.text.data()), end_(line.text.data() + line.text.size()) {}

  template <class... Args>
  [[noreturn]] void reject(std::string_view field, fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}:{}: {}{}{}", line_.file, line_.number, field, field.empty() ? "" : ": ",
         fmt::format(format, std::forward<Args>(args)...));
  }

  [[nodiscard]] bool at_end() {
    skip_space();
    return at_ == end_;
  }
  /// Takes `c` if it comes next.
  [[nodiscard]] bool take(char c) {
    if (at_ != end_ && *at_ == c) [[likely]] {
      ++at_;
      return true;
    }
    skip_space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, std::string_view field) {
    if (!take(c)) reject(field, "{} where '{}' must come", shown(), c);
  }

  /// A string without escapes, as all of a record are. Valid as long as the line is.
  [[nodiscard]] std::string_view string(std::string_view field) {
    if (!take('"')) reject(field, "is {}; it must be a string", shown());
    const char* const begin = at_;
    while (at_ != end_ && *at_ != '"') {
      const auto byte = static_cast<unsigned char>(*at_);
      if (byte < 0x20U || byte >= 0x7FU || byte == '\\') reject(field, "a byte that no name here has");
      ++at_;
    }
    if (at_ == end_) reject(field, "a string that does not end");
    return {begin, static_cast<std::size_t>(at_++ - begin)};
  }

  /// An integer without point, exponent or leading zeros. `field` is a name, or makes one when it is called.
  template <class Field>
  [[nodiscard]] std::int64_t integer(const Field& field, std::int64_t min, std::int64_t max) {
    skip_space();
    std::int64_t value = 0;
    const auto [after, error] = std::from_chars(at_, end_, value);
    const bool is_ended =
        after == end_ || *after == ',' || *after == ']' || *after == '}' || is_space(*after);
    if (error != std::errc{} || !is_ended || has_leading_zero(after) || value < min || value > max)
        [[unlikely]] {
      reject(name_of(field), "is {}; it must be an integer from {} to {}", shown(), min, max);
    }
    at_ = after;
    return value;
  }

  [[nodiscard]] double number(std::string_view field) {
    skip_space();
    double value = 0;
    const auto [after, error] = std::from_chars(at_, end_, value);
    const bool is_ended = after == end_ || *after == ',' || *after == '}' || is_space(*after);
    const bool begins_so = at_ != end_ && (*at_ == '-' || (*at_ >= '0' && *at_ <= '9'));
    const bool is_finite = value - value == 0;
    if (error != std::errc{} || !is_ended || !begins_so || !is_finite || has_leading_zero(after)) {
      reject(field, "is {}; it must be a finite number", shown());
    }
    at_ = after;
    return value;
  }

  /// What stands here, for messages: up to the next delimiter, cut.
  [[nodiscard]] std::string shown() {
    skip_space();
    if (at_ == end_) return "the end of the line";
    const char* end = at_ + 1;
    while (end != end_ && *end != ',' && *end != ']' && *end != '}' && *end != ':' && !is_space(*end)) ++end;
    std::string_view token(at_, static_cast<std::size_t>(end - at_));
    const bool is_plain = token.size() <= 40 && token.find_first_not_of("+-.0123456789eE") == token.npos;
    return is_plain ? std::string(token) : quote_name(token);
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }
  void skip_space() {
    while (at_ != end_ && is_space(*at_)) ++at_;
  }
  [[nodiscard]] bool has_leading_zero(const char* after) const {
    const char* digits = at_ != after && *at_ == '-' ? at_ + 1 : at_;
    return after - digits > 1 && *digits == '0' && digits[1] >= '0' && digits[1] <= '9';
  }
  template <class Field>
  static std::string name_of(const Field& field) {
    if constexpr (std::is_invocable_v<Field>) {
      return field();
    } else {
      return std::string(field);
    }
  }

  const TraceLine& line_;
  const char* at_;
  const char* end_;
};

}  // namespace flex
