#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

namespace flex::cli {
namespace {

std::string_view environment_text(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  return isatty(fileno(stream)) == 1 && environment_text("TERM") != "dumb";
}

bool has_colours(std::FILE* stream) { return environment_text("NO_COLOR").empty() && is_terminal(stream); }

std::string red(std::string_view text, std::FILE* stream) {
  return has_colours(stream) ? fmt::format("\033[31m{}\033[0m", text) : std::string(text);
}

}  // namespace flex::cli
