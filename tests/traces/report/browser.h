#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace flex {

/// A page as a browser left it.
struct LoadedPage {
  std::string html;     ///< its document, after its scripts ran
  std::string console;  ///< lines that it printed
};

/// Why no page can be loaded: no Chromium, or none that starts. Nothing if one can.
[[nodiscard]] std::optional<std::string> why_no_browser();

/// Loads the page in a headless Chromium. `query`: `?theme=dark`, or nothing.
/// @throws std::runtime_error if Chromium fails or takes more than two minutes.
[[nodiscard]] LoadedPage load_page(const std::filesystem::path& page, const std::string& query = {});

}  // namespace flex
