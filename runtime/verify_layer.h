#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace flex {

/// One output of one case against its expectation.
struct VerifiedOutput {
  std::string name;
  double error = 0.0;  ///< largest difference over the tensor's largest magnitude; 0 or infinity where
                       ///< equality is asked for
  double tolerance = 0.0;
  [[nodiscard]] bool passed() const { return error <= tolerance; }
};

struct VerifiedCase {
  std::string name;
  std::vector<VerifiedOutput> outputs;
  std::vector<std::string> uncompared;  ///< output tensors of the file that nothing was compared with
  [[nodiscard]] bool passed() const;
  /// The output with the largest error over its tolerance; null if there are none.
  [[nodiscard]] const VerifiedOutput* worst() const;
};

/// Largest relative error of an fp32 tensor: sums of some hundred terms in another order stay below it with a
/// margin of ten.
inline constexpr double kLayerTolerance = 2e-5;
/// Relative error of training losses: in the first kTightSteps, and up to kLooseSteps; later choices may
/// nearly tie.
inline constexpr double kTightCurveTolerance = 1e-4;
inline constexpr double kLooseCurveTolerance = 5e-2;
inline constexpr int kTightSteps = 30;
inline constexpr int kLooseSteps = 60;

/// Runs every case of a file of reference results (see layer_file.h) on one rank of `device` in fp32 and
/// compares all outputs. `expert_count` is passed over: the code that made such files keeps a running
/// location there that is not the count.
/// @throws InputError, FileError for files that cannot be used; DeviceError.
[[nodiscard]] std::vector<VerifiedCase> verify_layer_file(const std::filesystem::path& path, Device device);

}  // namespace flex
