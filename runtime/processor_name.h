#pragma once

#include <string>

namespace flex {

/// What the system calls this host's processor, e.g. `Intel(R) Xeon(R) Platinum 8480+`; `unknown processor`
/// where it does not say. @source proc(5), /proc/cpuinfo "model name"
[[nodiscard]] std::string processor_name();

}  // namespace flex
