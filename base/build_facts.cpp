#include "base/build_facts.h"

#include <fmt/format.h>

#include "base/build_values.h"

namespace flex {

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

std::string build_name() {
  const BuildFacts facts = build_facts();
  return fmt::format("{} {} {}", facts.version, facts.compiler, facts.build_type);
}

}  // namespace flex
