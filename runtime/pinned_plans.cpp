#include "runtime/pinned_plans.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "base/require.h"
#include "runtime/gather_texts.h"

namespace flex {
namespace {

std::string pinned_text() {
  const char* value = std::getenv("FLEX_PLAN");  // NOLINT(concurrency-mt-unsafe): none sets the environment
  return value == nullptr ? "" : value;
}

std::optional<PlanPair> parse_pinned(const std::string& text) {
  if (text.empty()) return std::nullopt;
  try {
    return parse_plan_pair(text);
  } catch (const InputError& error) {
    fail("FLEX_PLAN: {}", error.what());
  }
}

}  // namespace

std::optional<PlanPair> pinned_plans() { return parse_pinned(pinned_text()); }

std::optional<PlanPair> pinned_plans_blocking(RankContext& context) {
  const std::vector<std::string> texts = gather_texts_blocking(pinned_text(), context.control());
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    require(
        texts[rank] == texts[0],
        "FLEX_PLAN is '{}' on rank 0 and '{}' on rank {}; set it alike on all ranks (mpirun: -x FLEX_PLAN)",
        texts[0], texts[rank], rank);
  }
  return parse_pinned(texts[0]);
}

}  // namespace flex
