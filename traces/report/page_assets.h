#pragma once

#include <string_view>

/// The files of this folder that go into every page as they are. Private to the report.
namespace flex {

[[nodiscard]] std::string_view page_style();
[[nodiscard]] std::string_view page_script();
[[nodiscard]] std::string_view page_glossary();

}  // namespace flex
