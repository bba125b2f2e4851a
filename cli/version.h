#pragma once

#include <string>

namespace flex::cli {

/// `flexmoe 0.1.0 (GNU 12.2.0, Release, CUDA, MPI)`.
[[nodiscard]] std::string version_text();

/// What this build was made with, as (name, value) for a table.
struct BuildFacts {
  std::string version;
  std::string compiler;
  std::string build_type;
  bool cuda = false;
  bool nccl = false;
  bool mpi = false;
  bool cupti = false;
};
[[nodiscard]] BuildFacts build_facts();

}  // namespace flex::cli
