#include "traces/report/vega_library.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/read_file.h"
#include "base/require.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxModuleBytes = 4 << 20;

/// What the page's charts need, each after those that it needs itself. Without vega-projection and its like,
/// which need modules of D3 that the package does not have.
constexpr std::array<std::string_view, 20> kModules = {"vega-util",       "vega-time",
                                                       "vega-format",     "vega-loader",
                                                       "vega-dataflow",   "vega-canvas",
                                                       "vega-scale",      "vega-scenegraph",
                                                       "vega-statistics", "vega-expression",
                                                       "vega-selection",  "vega-event-selector",
                                                       "vega-transforms", "vega-view-transforms",
                                                       "vega-encode",     "vega-functions",
                                                       "vega-runtime",    "vega-parser",
                                                       "vega-view",       "vega-interpreter"};

std::string file_name(std::string_view module) { return fmt::format("{}.min.js", module); }

// Without the lines that lead to files beside the module.
std::string module_text(const fs::path& file) {
  std::string text = read_file(file, kMaxModuleBytes);
  const std::size_t map = text.find("//# sourceMappingURL");
  if (map != std::string::npos) text.erase(map);
  for (const std::string_view end : {"</script", "</SCRIPT", "<!--"}) {
    require(text.find(end) == std::string::npos, "{}: holds '{}', which ends a script in a page",
            file.string(), end);
  }
  return text;
}

// Each module as CommonJS has them: what it exports, and those that it asks for by name.
std::string wrapped(std::string_view module, const std::string& text) {
  return fmt::format(
      "((module) => {{ const exports = module.exports; const require = (name) => modules[name];\n{}\n"
      "modules[\"{}\"] = module.exports; }})({{exports: {{}}}});\n",
      text, module);
}

}  // namespace

std::string vega_script(const fs::path& folder) {
  std::string script =
      "/* Vega: Copyright 2015-2021 UW Interactive Data Lab, BSD-3-Clause, https://vega.github.io/vega/\n"
      "   with modules of D3: Copyright Mike Bostock, ISC */\n\"use strict\";\nconst modules = {};\n";
  for (const std::string_view module : kModules) {
    script += wrapped(module, module_text(folder / file_name(module)));
    // Another module asks for it by this name.
    if (module == "vega-selection") script += "modules[\"vega-selections\"] = modules[\"vega-selection\"];\n";
  }
  return script;
}

fs::path find_vega() {
  std::vector<fs::path> folders;
  std::error_code no_proc;  // then only the other folder is looked at
  const fs::path program = fs::read_symlink("/proc/self/exe", no_proc);
  if (!no_proc) folders.push_back(program.parent_path().parent_path() / FLEX_DATA_DIR / "vega");
  const std::string found_by_cmake = FLEX_VEGA_DIR;
  if (!found_by_cmake.empty()) folders.emplace_back(found_by_cmake);
  for (const fs::path& folder : folders) {
    std::error_code unreadable;
    if (fs::is_regular_file(folder / file_name("vega-view"), unreadable)) return folder;
  }
  fail<FileError>(
      "charts need Vega, and it is not at {}: install the package libjs-vega (Debian, Ubuntu: apt-get "
      "install "
      "libjs-vega), or name its folder with --vega",
      folders.empty() ? std::string("hand") : folders.back().string());
}

}  // namespace flex
