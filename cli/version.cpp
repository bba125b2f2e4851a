#include "cli/version.h"

#include <fmt/format.h>

#include "cli/version_values.h"

namespace flex::cli {

BuildFacts build_facts() {
  BuildFacts facts{.version = kVersion, .compiler = kCompiler, .build_type = kBuildType};
#ifdef FLEX_HAS_CUDA
  facts.cuda = true;
#endif
#ifdef FLEX_HAS_NCCL
  facts.nccl = true;
#endif
#ifdef FLEX_HAS_MPI
  facts.mpi = true;
#endif
#ifdef FLEX_HAS_CUPTI
  facts.cupti = true;
#endif
  return facts;
}

std::string version_text() {
  const BuildFacts facts = build_facts();
  return fmt::format("flexmoe {} ({}, {}{}{}{}{})", facts.version, facts.compiler, facts.build_type,
                     facts.cuda ? ", CUDA" : "", facts.nccl ? ", NCCL" : "", facts.cupti ? ", CUPTI" : "",
                     facts.mpi ? ", MPI" : "");
}

}  // namespace flex::cli
