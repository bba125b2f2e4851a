#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tests/structure/source_tree.h"

namespace flex {

/// The anchor that GitHub gives a heading: lower case, spaces as `-`, without punctuation. `heading` without
/// its #.
[[nodiscard]] std::string heading_anchor(std::string_view heading);

/// Relative links of Markdown pages to a file that is not there, or to an anchor that its page has not. Links
/// in code are text; those to other machines are nobody's business.
[[nodiscard]] std::vector<TreeFinding> find_broken_links(const std::filesystem::path& root);

/// Pages of docs/ that no chain of links reaches from README.md.
[[nodiscard]] std::vector<TreeFinding> find_unreachable_pages(const std::filesystem::path& root);

}  // namespace flex
