#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "costmodel/cost_sample.h"
#include "runtime/pass_measurement.h"

namespace flex {

/// What one run measured: the samples and whole passes that a cost model is calibrated from, and the passes
/// of other layers that it then has to predict. A plain value, so that predictions can be made again from a
/// file.
struct ValidationRecording {
  std::string device;  ///< what ran it, e.g. the model name of the processor
  bool is_gpu = false;
  int host_cores = 0;
  int world = 1;
  int ranks_per_node = 1;
  DType dtype = DType::kF32;
  std::uint64_t seed = 1;
  int rounds = 0;  ///< that medians are over
  std::vector<CostSample> samples;
  std::vector<MeasuredPass> calibration_passes;  ///< without kinds; none in older files
  std::vector<MeasuredPass> passes;
  std::vector<CostSample> held_out;  ///< operations of `passes`, alone; none in older files

  friend bool operator==(const ValidationRecording&, const ValidationRecording&) = default;
};

/// Written beside its place and renamed. @throws FileError.
void write_validation_recording(const std::filesystem::path& file, const ValidationRecording& recording);
/// @throws InputError that names the file, the key and what would be right; FileError.
[[nodiscard]] ValidationRecording read_validation_recording(const std::filesystem::path& file);

}  // namespace flex
