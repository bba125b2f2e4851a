#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace flex::cli {

/// Whether `stream` is a terminal that understands escape sequences: not where TERM is `dumb`.
[[nodiscard]] bool is_terminal(std::FILE* stream);

/// Whether `stream` takes colours: a terminal, and NO_COLOR is not set, or empty.
/// @source https://no-color.org
[[nodiscard]] bool has_colours(std::FILE* stream);

/// `text` in red where `stream` takes colours, otherwise as it is.
[[nodiscard]] std::string red(std::string_view text, std::FILE* stream);

}  // namespace flex::cli
