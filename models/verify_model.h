#pragma once

#include <filesystem>
#include <vector>

#include "models/reference_model.h"
#include "runtime/verify_layer.h"

namespace flex {

/// Largest error of logits and stages over their tensor's largest magnitude.
inline constexpr double kLogitsTolerance = 2e-5;
/// Relative error of training losses.
inline constexpr double kTrainingTolerance = 1e-3;
/// A gradient may be off by this share of its tensor's largest magnitude, and by kFileGradientTolerance of
/// the largest of all: the gradient of a scale may be tiny, and rounding alone moves it.
inline constexpr double kGradientTolerance = 1e-4;
inline constexpr double kFileGradientTolerance = 1e-7;

/// Runs the first batch of a reference model, forward and backward, and then trains it, on one rank of
/// `device` in `dtype`; compares every tensor of the file. Two cases, the second only where the file has
/// training losses.
[[nodiscard]] std::vector<VerifiedCase> verify_reference_model(const ReferenceModel& reference, DType dtype,
                                                               Device device);

/// verify_layer_file(), also for files of reference models. fp32. @throws InputError, FileError, DeviceError.
[[nodiscard]] std::vector<VerifiedCase> verify_file(const std::filesystem::path& path, Device device);

}  // namespace flex
