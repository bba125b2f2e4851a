#include "tests/structure/source_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <string_view>

namespace flex {
namespace {

namespace fs = std::filesystem;

// From the ground up: a folder may include itself and what stands before it.
constexpr std::array<std::string_view, 9> kFloors = {"base",   "kernels", "profiler", "costmodel", "tuner",
                                                     "traces", "runtime", "models",   "cli"};
constexpr std::array<std::string_view, 3> kLeaves = {"tests", "bench", "examples"};
constexpr std::array<std::string_view, 4> kSourceSuffixes = {".h", ".cpp", ".cu", ".cuh"};

template <class List>
bool contains(const List& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

std::optional<std::ptrdiff_t> floor_of(std::string_view folder) {
  const auto* const found = std::find(kFloors.begin(), kFloors.end(), folder);
  if (found == kFloors.end()) return std::nullopt;
  return found - kFloors.begin();
}

// What git would not hold: build trees, hidden caches (but .ci and the dot files of the root are the
// project's).
bool is_skipped(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name.starts_with("build") || (name.starts_with(".") && name != ".ci");
}

std::vector<fs::path> files_below(const fs::path& root) {
  std::vector<fs::path> files;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::recursive_directory_iterator();
       ++entry) {
    if (entry->is_directory() && is_skipped(entry->path())) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file()) {
      files.push_back(fs::relative(entry->path(), root));
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> sources_below(const fs::path& root) {
  std::vector<fs::path> files = files_below(root);
  std::erase_if(files,
                [](const fs::path& file) { return !contains(kSourceSuffixes, file.extension().string()); });
  return files;
}

std::vector<std::string> read_lines(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool is_binary(const std::vector<std::string>& lines) {
  return std::any_of(lines.begin(), lines.end(),
                     [](const std::string& line) { return line.find('\0') != std::string::npos; });
}

// Why a file of `folder` may not include `included`, if it may not. System and library headers are nobody's
// business.
std::optional<std::string> why_not(std::string_view folder, std::string_view included, bool is_quoted) {
  const std::string_view target = included.substr(0, included.find('/'));
  if (target == included) {
    if (!is_quoted) return std::nullopt;
    return fmt::format("includes \"{}\" without its folder", included);
  }
  const auto floor = floor_of(folder);
  if (!floor) return std::nullopt;
  if (contains(kLeaves, target)) {
    return fmt::format("{}/ includes \"{}\"; nothing includes {}/", folder, included, target);
  }
  const auto target_floor = floor_of(target);
  if (!target_floor || *target_floor <= *floor) return std::nullopt;
  return fmt::format("{}/ includes \"{}\"; {}/ stands above it", folder, included, target);
}

template <class Rule>
std::vector<TreeFinding> check_lines(const fs::path& root, const std::vector<fs::path>& files,
                                     const Rule& rule) {
  std::vector<TreeFinding> findings;
  for (const fs::path& file : files) {
    const std::vector<std::string> lines = read_lines(root / file);
    if (is_binary(lines)) continue;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (auto what = rule(file, lines[i]))
        findings.push_back({file, static_cast<int>(i) + 1, *std::move(what)});
    }
  }
  return findings;
}

}  // namespace

std::string to_string(const TreeFinding& finding) {
  return fmt::format("{}:{}: {}", finding.file.string(), finding.line, finding.what);
}

std::vector<TreeFinding> find_upward_includes(const fs::path& root) {
  const std::regex include(R"(^\s*#\s*include\s*([<"])([^">]+)[">])");
  return check_lines(root, sources_below(root),
                     [&](const fs::path& file, const std::string& line) -> std::optional<std::string> {
                       std::smatch match;
                       if (!std::regex_search(line, match, include)) return std::nullopt;
                       return why_not(file.begin()->string(), match[2].str(), match[1].str() == "\"");
                     });
}

std::vector<TreeFinding> find_machine_paths(const fs::path& root) {
  // Split, so that this file passes its own rule.
  const std::regex machine_path(
      "(^|[^A-Za-z0-9_.])(/ro"
      "ot/|/ho"
      "me/)");
  return check_lines(root, files_below(root),
                     [&](const fs::path&, const std::string& line) -> std::optional<std::string> {
                       std::smatch match;
                       if (!std::regex_search(line, match, machine_path)) return std::nullopt;
                       return fmt::format("holds a path of one machine, '{}'", match[2].str());
                     });
}

std::vector<TreeFinding> find_long_files(const fs::path& root, int max_lines) {
  std::vector<TreeFinding> findings;
  for (const fs::path& file : sources_below(root)) {
    const int num_lines = static_cast<int>(read_lines(root / file).size());
    if (num_lines > max_lines) {
      findings.push_back(
          {file, num_lines, fmt::format("longer than {} lines: has it one subject?", max_lines)});
    }
  }
  return findings;
}

std::vector<TreeFinding> find_repeated_type_names(const fs::path& root) {
  // Types of a namespace begin a line; those inside of others are indented. A definition, not a declaration.
  static const std::regex kNamespace(R"(namespace ([\w:]*) ?\{)");
  static const std::regex kType(R"((?:struct|class|enum class|union) (\w+)(?: final)?(?: :.*)?(?: \{.*)?)");
  std::vector<TreeFinding> findings;
  std::map<std::string, fs::path> owners;
  for (const fs::path& file : sources_below(root)) {
    if (!file.extension().string().ends_with("h")) continue;  // .h and .cuh
    std::vector<std::string> namespaces;
    int line_number = 0;
    for (const std::string& line : read_lines(root / file)) {
      ++line_number;
      std::smatch match;
      if (std::regex_match(line, match, kNamespace)) namespaces.push_back(match.str(1) + "::");
      if (line.starts_with("}  // namespace") && !namespaces.empty()) namespaces.pop_back();
      if (!std::regex_match(line, match, kType)) continue;
      const auto [owner, is_new] =
          owners.emplace(fmt::format("{}{}", fmt::join(namespaces, ""), match.str(1)), file);
      if (is_new || owner->second == file) continue;
      findings.push_back(
          {file, line_number,
           fmt::format("{} is the name of a type in {} too", owner->first, owner->second.generic_string())});
    }
  }
  return findings;
}

}  // namespace flex
