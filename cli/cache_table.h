#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tuner/cache.h"

/// What `flexmoe cache` prints.
namespace flex::cli {

/// One line for each case with its decision, under titles.
[[nodiscard]] std::string cases_text(const std::vector<CachedCase>& cases);
[[nodiscard]] nlohmann::ordered_json cases_json(const std::vector<CachedCase>& cases);

/// A case whole: where, what, the decision, and every trial.
[[nodiscard]] std::string case_text(const CachedCase& one, const std::vector<Trial>& trials);
[[nodiscard]] nlohmann::ordered_json case_json(const CachedCase& one, const std::vector<Trial>& trials);

/// A case for which two caches would run other plans; nothing where one has none.
struct CaseDifference {
  TuningKey key;
  std::optional<Decision> left;
  std::optional<Decision> right;
};
[[nodiscard]] std::string differences_text(const std::vector<CaseDifference>& differences);
[[nodiscard]] nlohmann::ordered_json differences_json(const std::vector<CaseDifference>& differences);

}  // namespace flex::cli
