#include "tests/traces/report/browser.h"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int run(const std::string& command) {
  const int status = std::system(command.c_str());  // NOLINT(cert-env33-c): a program of the machine
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string find_browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
    if (run(std::string("command -v ") + name + " >/dev/null 2>&1") == 0) return name;
  }
  return {};
}

// Without the sandbox, which root cannot have, and without a profile that outlives the run.
LoadedPage load(const std::string& browser, const std::string& url) {
  const TemporaryDirectory directory;
  const std::string out = (directory / "out").string();
  const std::string err = (directory / "err").string();
  const int status =
      run("timeout 120 " + browser +
          " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=" +
          (directory / "profile").string() +
          " --window-size=1280,2000 --virtual-time-budget=20000 --enable-logging=stderr --dump-dom '" + url +
          "' >" + out + " 2>" + err);
  LoadedPage page{.html = read_all(out)};
  std::istringstream lines(read_all(err));
  for (std::string line; std::getline(lines, line);) {
    if (line.find("CONSOLE") != std::string::npos) page.console += line + "\n";
  }
  if (status != 0)
    throw std::runtime_error(browser + " ended with " + std::to_string(status) + ": " + read_all(err));
  return page;
}

}  // namespace

std::optional<std::string> why_no_browser() {
  const std::string browser = find_browser();
  if (browser.empty()) return "no Chromium here (Debian: apt-get install chromium)";
  try {
    if (load(browser, "data:text/html,<p>here").html.find("here") == std::string::npos) {
      return browser + " shows no page";
    }
  } catch (const std::runtime_error& error) {
    return std::string("it does not start: ") + error.what();
  }
  return std::nullopt;
}

LoadedPage load_page(const std::filesystem::path& page, const std::string& query) {
  return load(find_browser(), "file://" + page.string() + query);
}

}  // namespace flex
