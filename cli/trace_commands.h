#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

#include "traces/trace_output.h"
#include "traces/trace_reader.h"

/// What the subcommands of `flexmoe trace` share.
namespace flex::cli {

/// From first to last, both included.
struct Range {
  std::int64_t first = 0;
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
  [[nodiscard]] bool holds(std::int64_t value) const { return value >= first && value <= last; }
};
/// `3..9`, `3..`, `..9` or `3`. @throws InputError naming `option`.
[[nodiscard]] Range parse_range(const std::string& option, const std::string& text);

/// `-o FILE`, which must be given.
void add_output_option(CLI::App& command, std::string& output);

/// A warning on stderr if the trace was not whole.
void warn_of_damage(const TraceReader& reader);

/// Ends a file that was made, and prints what is in it on stdout. `num_dropped`: of the trace it comes from.
void finish_output(TraceOutput& output, const std::string& file, std::int64_t num_dropped = 0);

/// generate, import, reshard.
void add_trace_making(CLI::App& trace);

}  // namespace flex::cli
