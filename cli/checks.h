#pragma once

#include <CLI/CLI.hpp>
#include <string>

/// What options check of their values, in words for people.
namespace flex::cli {

/// A number above 0.
[[nodiscard]] CLI::Validator positive_number();
/// 0 or more.
[[nodiscard]] CLI::Validator not_negative();

/// Before work whose result goes to this file: that it can be made there. An empty path is none.
/// @throws FileError
void require_writable(const std::string& path);

}  // namespace flex::cli
