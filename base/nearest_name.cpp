#include "base/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace flex {
namespace {

// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t substituted = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> names) {
  std::optional<std::string> nearest;
  std::size_t nearest_distance = 0;
  for (const std::string& candidate : names) {
    const std::size_t allowed = std::max<std::size_t>(2, candidate.size() / 3);
    const std::size_t length_gap =
        std::max(candidate.size(), name.size()) - std::min(candidate.size(), name.size());
    if (length_gap > allowed) continue;  // also spares the quadratic work on absurdly long names
    const std::size_t distance = edit_distance(name, candidate);
    if (distance > allowed || distance >= candidate.size()) continue;
    if (!nearest || distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

}  // namespace flex
