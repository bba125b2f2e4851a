#pragma once

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <utility>

/// Log lines for people, on stderr: `flexmoe warning: text`.
///
/// The level comes from the environment variable FLEX_LOG (trace, debug, info, warn, error, off; default
/// warn), read at the first use. A program that embeds Flex may register a spdlog logger named "flexmoe"
/// before that; Flex then writes to it and leaves its level alone. Every function here may be called from any
/// thread and never throws: a line that cannot be written is lost.
namespace flex {

enum class LogLevel { kTrace, kDebug, kInfo, kWarning, kError, kOff };

/// The level of a name that FLEX_LOG may hold; nothing if there is no such name.
[[nodiscard]] std::optional<LogLevel> parse_log_level(std::string_view name);

/// The least level that is written.
[[nodiscard]] LogLevel log_level() noexcept;
void set_log_level(LogLevel level) noexcept;

/// Writes one line if `level` is enabled; the typed functions below are the ones to use.
void log_formatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept;

template <class... Args>
void log_trace(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_formatted(LogLevel::kTrace, format, fmt::make_format_args(args...));
}

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_formatted(LogLevel::kDebug, format, fmt::make_format_args(args...));
}

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_formatted(LogLevel::kInfo, format, fmt::make_format_args(args...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_formatted(LogLevel::kWarning, format, fmt::make_format_args(args...));
}

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) noexcept {
  log_formatted(LogLevel::kError, format, fmt::make_format_args(args...));
}

}  // namespace flex
