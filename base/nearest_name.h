#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace flex {

/// Which of `names` a misspelled `name` was probably meant to be: the one with the least edit distance, the
/// first of equals; nothing if even that one differs in more than a third of its letters (two are always
/// allowed, if they are not all).
[[nodiscard]] std::optional<std::string> nearest_name(std::string_view name,
                                                      std::span<const std::string> names);

}  // namespace flex
