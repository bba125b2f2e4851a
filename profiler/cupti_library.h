#pragma once

#include <span>
#include <string>
#include <variant>

#include "profiler/cupti_abi.h"

namespace flex {

/// Loads CUPTI from the first of `paths` that can be opened, each a name for the dynamic loader or a file,
/// and finds the functions of cupti::Api in it. Returns why not otherwise, for people. The library stays
/// loaded: it hooks into the driver.
[[nodiscard]] std::variant<cupti::Api, std::string> open_cupti(std::span<const std::string> paths);

/// The CUPTI that belongs to the CUDA that this build uses, loaded by the first call. Nothing of CUPTI is
/// loaded before. Returns why not in a build without it.
[[nodiscard]] std::variant<const cupti::Api*, std::string> load_cupti();

/// `cuptiSubscribe: CUPTI_ERROR_UNKNOWN`.
[[nodiscard]] std::string describe_cupti_failure(const cupti::Api& api, const char* call,
                                                 std::int32_t result);

}  // namespace flex
