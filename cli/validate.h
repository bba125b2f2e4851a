#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace flex::cli {

/// `flexmoe simulate --validate`: how wrong predictions are on this host.
struct ValidateOptions {
  std::string device = "cpu";
  std::string dtype = "fp32";
  std::vector<int> ranks = {2};
  std::optional<double> budget_s;
  int pairs = 60;
  std::string clock = "cupti";
  bool table = false;
  std::uint64_t seed = 1;
  std::string write_samples;
  std::string record;
  std::vector<std::string> recordings;
  std::string trace;
  bool json = false;
};

/// The options that need `validate`, the flag --validate.
void add_validate_options(CLI::App& command, CLI::Option& validate, ValidateOptions& options);

/// Measures, or reads recordings, and prints. @throws InputError, DeviceError, FileError.
void run_validation(const ValidateOptions& options);

}  // namespace flex::cli
