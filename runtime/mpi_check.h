#pragma once

#include <mpi.h>

#include <array>
#include <string_view>

#include "base/require.h"

namespace flex {

/// @throws CommError with MPI's text unless `code` is MPI_SUCCESS.
inline void check_mpi(int code, std::string_view call) {
  if (code == MPI_SUCCESS) [[likely]] {
    return;
  }
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  fail<CommError>("{} failed: {}", call, std::string_view(text.data(), static_cast<std::size_t>(length)));
}

}  // namespace flex
