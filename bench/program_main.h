#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <exception>

namespace flex::bench {

/// What main() of a program does: runs it, and says in one line why it could not. 2 is its exit code then.
template <class Program>
int program_main(const char* name, int argc, char** argv, const Program& run_program) {
  try {
    return run_program(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", name, error.what());
    return 2;
  }
}

}  // namespace flex::bench
