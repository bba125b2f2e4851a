#pragma once

#include <string>

namespace flex {

/// What this build of Flex was made with.
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

/// `0.1.0 GNU 12.2.0 Release`: builds of other names may take other times for the same work.
[[nodiscard]] std::string build_name();

}  // namespace flex
