#include "runtime/pinned_plans.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/require.h"
#include "runtime/gather_texts.h"

namespace flex {

std::optional<PlanPair> pinned_plans_blocking(RankContext& context) {
  const char* value = std::getenv("FLEX_PLAN");  // NOLINT(concurrency-mt-unsafe): none sets the environment
  const std::vector<std::string> texts =
      gather_texts_blocking(value == nullptr ? "" : value, context.control());
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    require(
        texts[rank] == texts[0],
        "FLEX_PLAN is '{}' on rank 0 and '{}' on rank {}; set it alike on all ranks (mpirun: -x FLEX_PLAN)",
        texts[0], texts[rank], rank);
  }
  if (texts[0].empty()) return std::nullopt;
  try {
    return parse_plan_pair(texts[0]);
  } catch (const InputError& error) {
    fail("FLEX_PLAN: {}", error.what());
  }
}

}  // namespace flex
