#pragma once

#include <filesystem>
#include <string>

/// The program as a user calls it.
namespace flex {

struct Result {
  int exit_code = -1;
  std::string out;
  std::string err;
};

/// All of a file.
[[nodiscard]] std::string read_all(const std::filesystem::path& path);

/// Runs the program with `arguments`, as the shell splits them; `before`: what stands before
/// it, such as `NAME=value` or a program that runs it.
[[nodiscard]] Result flexmoe(const std::string& arguments, const std::string& before = {});

}  // namespace flex
