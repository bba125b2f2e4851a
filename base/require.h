#pragma once

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace flex {

/// Throws E with a formatted message unless `condition` holds.
template <class E = InputError, class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    throw E(fmt::format(format, std::forward<Args>(args)...));
  }
}

/// Throws E with a formatted message.
template <class E = InputError, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace flex
