#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>

namespace flex {
namespace {

constexpr const char* kLoggerName = "flexmoe";
constexpr LogLevel kDefaultLevel = LogLevel::kWarning;

struct NamedLevel {
  std::string_view name;
  LogLevel level;
  spdlog::level::level_enum spdlog_level;
};

constexpr std::array<NamedLevel, 6> kLevels = {{{"trace", LogLevel::kTrace, spdlog::level::trace},
                                                {"debug", LogLevel::kDebug, spdlog::level::debug},
                                                {"info", LogLevel::kInfo, spdlog::level::info},
                                                {"warn", LogLevel::kWarning, spdlog::level::warn},
                                                {"error", LogLevel::kError, spdlog::level::err},
                                                {"off", LogLevel::kOff, spdlog::level::off}}};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  return kLevels[static_cast<std::size_t>(level)].spdlog_level;
}

std::shared_ptr<spdlog::logger> make_logger() {
  if (auto registered = spdlog::get(kLoggerName)) return registered;
  auto logger = spdlog::stderr_logger_mt(kLoggerName);
  logger->set_pattern("%n %l: %v");
  logger->set_level(to_spdlog(kDefaultLevel));
  logger->flush_on(spdlog::level::trace);
  if (const char* name = std::getenv("FLEX_LOG"); name != nullptr && *name != '\0') {
    if (const auto level = parse_log_level(name)) {
      logger->set_level(to_spdlog(*level));
    } else {
      logger->warn("FLEX_LOG is '{}'; it is trace, debug, info, warn, error or off", name);
    }
  }
  return logger;
}

spdlog::logger& logger() {
  // Never destroyed, so that destructors of static objects may still log.
  static const auto* const instance = new std::shared_ptr<spdlog::logger>(make_logger());
  return **instance;
}

}  // namespace

std::optional<LogLevel> parse_log_level(std::string_view name) {
  for (const NamedLevel& named : kLevels) {
    if (named.name == name) return named.level;
  }
  return std::nullopt;
}

LogLevel log_level() noexcept {
  try {
    const auto current = logger().level();
    for (const NamedLevel& named : kLevels) {
      if (current <= named.spdlog_level) return named.level;
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch): no memory for the logger, nothing can be written
  }
  return LogLevel::kOff;
}

void set_log_level(LogLevel level) noexcept {
  try {
    logger().set_level(to_spdlog(level));
  } catch (...) {  // NOLINT(bugprone-empty-catch): as in log_level
  }
}

void log_formatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept {
  // Callers include destructors and error paths: a log line must not become a second failure.
  try {
    spdlog::logger& target = logger();
    if (level == LogLevel::kOff || !target.should_log(to_spdlog(level))) return;
    target.log(to_spdlog(level), "{}", fmt::vformat(format, args));
  } catch (...) {  // NOLINT(bugprone-empty-catch): as in log_level
  }
}

}  // namespace flex
