#include "cli/version.h"

#include <fmt/format.h>

#include "base/build_facts.h"

namespace flex::cli {

std::string version_text() {
  const BuildFacts facts = build_facts();
  return fmt::format("flexmoe {} ({}, {}{}{}{}{})", facts.version, facts.compiler, facts.build_type,
                     facts.cuda ? ", CUDA" : "", facts.nccl ? ", NCCL" : "", facts.cupti ? ", CUPTI" : "",
                     facts.mpi ? ", MPI" : "");
}

}  // namespace flex::cli
