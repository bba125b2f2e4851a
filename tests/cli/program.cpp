#include "tests/cli/program.h"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/base/temporary_directory.h"

namespace flex {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result flexmoe(const std::string& arguments, const std::string& before) {
  const TemporaryDirectory directory;
  const auto out = directory.path() / "out";
  const auto err = directory.path() / "err";
  const std::string command =
      before + " " + FLEX_PROGRAM + " " + arguments + " >" + out.string() + " 2>" + err.string();
  const int status = std::system(command.c_str());  // NOLINT(cert-env33-c): the program under test
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(err)};
}

}  // namespace flex
