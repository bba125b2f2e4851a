#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/communicator.h"

namespace flex {

/// The texts of all ranks, in rank order. Collective. @throws CommError.
[[nodiscard]] std::vector<std::string> gather_texts_blocking(std::string_view text,
                                                             Communicator& communicator);

}  // namespace flex
