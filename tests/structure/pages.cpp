#include "tests/structure/pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <map>
#include <regex>
#include <set>

namespace flex {
namespace {

namespace fs = std::filesystem;

struct Link {
  int line = 0;        ///< from 1
  std::string target;  ///< as the page has it
};

struct Page {
  std::vector<Link> links;
  std::set<std::string> anchors;
};

std::string without_code(const std::string& line) {
  static const std::regex code("`[^`]*`");
  return std::regex_replace(line, code, "");
}

Page read_page(const fs::path& file) {
  static const std::regex link(R"re(\]\(([^)\s]+)\)|(?:src|href)="([^"]+)")re");
  static const std::regex heading("#+ +(.*)");
  Page page;
  std::map<std::string, int> seen;
  bool is_code = false;
  int number = 0;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.starts_with("```")) is_code = !is_code;
    if (is_code) continue;
    std::smatch match;
    if (std::regex_match(line, match, heading)) {
      const std::string anchor = heading_anchor(match[1].str());
      const int repeats = seen[anchor]++;
      page.anchors.insert(repeats == 0 ? anchor : fmt::format("{}-{}", anchor, repeats));
    }
    const std::string text = without_code(line);
    for (std::sregex_iterator found(text.begin(), text.end(), link), end; found != end; ++found) {
      page.links.push_back({number, (*found)[1].matched ? (*found)[1].str() : (*found)[2].str()});
    }
  }
  return page;
}

// By path from the root. Build trees and hidden folders hold no pages of the project.
std::map<fs::path, Page> read_pages(const fs::path& root) {
  std::map<fs::path, Page> pages;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::recursive_directory_iterator();
       ++entry) {
    const std::string name = entry->path().filename().string();
    if (entry->is_directory() && (name.starts_with("build") || name.starts_with("."))) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file() && entry->path().extension() == ".md") {
      pages.emplace(fs::relative(entry->path(), root), read_page(entry->path()));
    }
  }
  return pages;
}

// The file that a link leads to, as a path from the root; the page itself for a bare anchor.
fs::path target_file(const fs::path& page, const std::string& target) {
  const std::string file = target.substr(0, target.find('#'));
  return file.empty() ? page : (page.parent_path() / file).lexically_normal();
}

bool leads_elsewhere(const std::string& target) { return target.find(':') != std::string::npos; }

}  // namespace

std::string heading_anchor(std::string_view heading) {
  std::string anchor;
  for (const char c : heading) {
    if (c == ' ') {
      anchor += '-';
    } else if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_') {
      anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return anchor;
}

std::vector<TreeFinding> find_broken_links(const fs::path& root) {
  const std::map<fs::path, Page> pages = read_pages(root);
  std::vector<TreeFinding> findings;
  for (const auto& [path, page] : pages) {
    for (const Link& link : page.links) {
      if (leads_elsewhere(link.target)) continue;
      const fs::path file = target_file(path, link.target);
      if (!fs::exists(root / file)) {
        findings.push_back({path, link.line, fmt::format("links to {}, which is not there", link.target)});
        continue;
      }
      const std::size_t hash = link.target.find('#');
      const auto linked = pages.find(file);
      if (hash == std::string::npos || linked == pages.end()) continue;
      if (!linked->second.anchors.contains(link.target.substr(hash + 1))) {
        findings.push_back(
            {path, link.line, fmt::format("links to {}, which has no such heading", link.target)});
      }
    }
  }
  return findings;
}

std::vector<TreeFinding> find_unreachable_pages(const fs::path& root) {
  const std::map<fs::path, Page> pages = read_pages(root);
  std::set<fs::path> reached;
  std::vector<fs::path> next = {"README.md"};
  while (!next.empty()) {
    const fs::path path = next.back();
    next.pop_back();
    const auto page = pages.find(path);
    if (page == pages.end() || !reached.insert(path).second) continue;
    for (const Link& link : page->second.links) {
      if (!leads_elsewhere(link.target)) next.push_back(target_file(path, link.target));
    }
  }
  std::vector<TreeFinding> findings;
  for (const auto& [path, page] : pages) {
    if (*path.begin() == "docs" && !reached.contains(path)) {
      findings.push_back({path, 1, "no chain of links from README.md leads here"});
    }
  }
  return findings;
}

}  // namespace flex
