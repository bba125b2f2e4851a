#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace flex {

/// A rule that a line of the source tree breaks.
struct TreeFinding {
  std::filesystem::path file;  ///< relative to the root of the tree
  int line = 0;                ///< from 1
  std::string what;
};

/// `file:line: what`, as compilers print it.
[[nodiscard]] std::string to_string(const TreeFinding& finding);

/// Includes that go upwards in the list of folders (base first, cli last), from a folder into tests, bench or
/// examples, or that do not name their folder.
[[nodiscard]] std::vector<TreeFinding> find_upward_includes(const std::filesystem::path& root);

/// Lines of text files that hold a path of one machine: a home folder, a scratch folder of a build.
[[nodiscard]] std::vector<TreeFinding> find_machine_paths(const std::filesystem::path& root);

/// Sources of more than `max_lines` lines.
[[nodiscard]] std::vector<TreeFinding> find_long_files(const std::filesystem::path& root, int max_lines);

/// Types of one name that several headers of a namespace define: whatever includes both does not compile, and
/// programs that link both may run the wrong one's code.
[[nodiscard]] std::vector<TreeFinding> find_repeated_type_names(const std::filesystem::path& root);

}  // namespace flex
