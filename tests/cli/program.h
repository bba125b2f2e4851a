#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/base/temporary_directory.h"

/// The program as a user calls it.
namespace flex {

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Runs the program with `arguments`, as the shell splits them.
inline Result flexmoe(const std::string& arguments) {
  const TemporaryDirectory directory;
  const auto out = directory.path() / "out";
  const auto err = directory.path() / "err";
  const std::string command =
      std::string(FLEX_PROGRAM) + " " + arguments + " >" + out.string() + " 2>" + err.string();
  const int status = std::system(command.c_str());  // NOLINT(cert-env33-c): the program under test
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(err)};
}

}  // namespace flex
