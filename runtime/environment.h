#pragma once

#include <string>
#include <string_view>

#include "costmodel/cluster.h"
#include "runtime/rank_context.h"
#include "tuner/trial.h"

namespace flex {

/// What the running job is made of: the processor or GPU, the versions of all that moves or computes, and how
/// its ranks lie. Collective, and equal on all ranks: where ranks differ in a text, it has all of theirs,
/// `A + B`. So a mixed job shares no entry of a cache with a uniform one.
///
/// `described`: a description of this cluster, if there is one. It names the links, which a program cannot
/// ask for, if it is of the same device and of as many ranks and nodes; otherwise they stay empty.
/// @throws CommError, DeviceError.
[[nodiscard]] Environment environment_of(RankContext& context, const Cluster& described = {});

/// Model name of the processor of this host, or of a GPU as its driver gives it. @throws DeviceError.
[[nodiscard]] std::string device_name(Device device);

/// The version in what the GPU's driver says of itself, e.g. `560.35.03`; empty if there is none.
/// @source /proc/driver/nvidia/version, line "NVRM version"
[[nodiscard]] std::string driver_version_in(std::string_view text);

}  // namespace flex
