#include "tuner/dictionary_search.h"

#include <algorithm>

#include "tuner/search_session.h"

namespace flex {
namespace {

/// Times of r: that of its best pair, over all d, All-to-Alls and expert kernels.
class DegreeTimes {
 public:
  explicit DegreeTimes(SearchSession& session) : session_(session) {
    for (const Plan& plan : session.problem().plans) {
      if (degrees_.empty() || degrees_.back() != plan.parallel_degree) {
        degrees_.push_back(plan.parallel_degree);
      }
    }
  }

  /// Ascending.
  [[nodiscard]] std::span<const std::int32_t> degrees() const { return degrees_; }

  /// Infinite if no plan of this r runs; nothing if the budget is used up.
  std::optional<double> operator()(std::int32_t degree) {
    std::vector<Plan> plans;
    std::ranges::copy_if(session_.problem().plans, std::back_inserter(plans),
                         [&](const Plan& plan) { return plan.parallel_degree == degree; });
    if (!session_.evaluate_all(plans)) return std::nullopt;
    double best_us = std::numeric_limits<double>::infinity();
    for (const Plan& plan : plans) {
      if (const auto pair = session_.best_with(plan)) best_us = std::min(best_us, pair->total_us);
    }
    return best_us;
  }

 private:
  SearchSession& session_;
  std::vector<std::int32_t> degrees_;
};

/// Narrows ascending degrees down to their minimum. False if the budget is used up.
bool ternary_search(std::span<const std::int32_t> degrees, DegreeTimes& time_us) {
  while (degrees.size() > 3) {
    const std::size_t third = (degrees.size() - 1) / 3;
    const std::size_t low = third;
    const std::size_t high = degrees.size() - 1 - third;
    const std::optional<double> low_us = time_us(degrees[low]);
    const std::optional<double> high_us = low_us ? time_us(degrees[high]) : std::nullopt;
    if (!high_us) return false;
    // The worse of the two is not the minimum; of equal ones either may be.
    if (*low_us < *high_us) {
      degrees = degrees.first(high);
    } else if (*low_us > *high_us) {
      degrees = degrees.subspan(low + 1);
    } else {
      degrees = degrees.subspan(low, high - low + 1);
    }
  }
  return std::ranges::all_of(degrees, [&](std::int32_t degree) { return time_us(degree).has_value(); });
}

}  // namespace

SearchResult DictionarySearch::search(const SearchProblem& problem, Evaluator& evaluator,
                                      const SearchBudget& budget, std::uint64_t /*seed*/) const {
  SearchSession session(problem, evaluator, budget);
  DegreeTimes time_us(session);
  std::span<const std::int32_t> degrees = time_us.degrees();
  bool go_on = time_us(degrees.back()).has_value();
  if (degrees.front() == 0) {
    go_on = go_on && time_us(0).has_value();
    degrees = degrees.subspan(1);  // weights travel instead of tokens: no end of the same curve
  }
  if (go_on) ternary_search(degrees, time_us);
  return session.finish();
}

}  // namespace flex
