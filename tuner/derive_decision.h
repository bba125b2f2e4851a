#pragma once

#include <optional>
#include <span>
#include <string>

#include "tuner/trial.h"

namespace flex {

/// What a search says at its end.
struct SearchSummary {
  std::string strategy;  ///< e.g. `dictionary`
  bool is_complete =
      false;  ///< it came to its own end: it was not stopped, and had the budget that it wanted
  /// The plan that it chose, where more than this pass weighs (the backward pass has the forward plan's r);
  /// nothing: the fastest.
  std::optional<Plan> plan = {};
};

/// The fastest plan of a case, out of trials of that case.
///
/// Only trials of one source, T and C are compared with each other: of those that include the default plan,
/// the most trusted source, then the most plans, then the latest. Of several trials of a plan the latest
/// counts. The default plan wins ties, then the smaller plan. Without a trial of the default plan, or of the
/// plan that the search chose, there is no decision: nothing would say what it gains or loses.
[[nodiscard]] std::optional<Decision> derive_decision(const TuningKey& key, std::span<const Trial> trials,
                                                      const SearchSummary& search, std::int64_t now_ns);

/// Whether `next` may take the place of `present`: it rests on a source that is trusted at least as much, and
/// of the same source an incomplete search does not replace a complete one.
[[nodiscard]] bool may_replace(const Decision& present, const Decision& next);

}  // namespace flex
