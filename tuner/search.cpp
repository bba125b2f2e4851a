#include "tuner/search.h"

#include <algorithm>
#include <string>

#include "base/json.h"
#include "base/nearest_name.h"
#include "base/require.h"
#include "costmodel/plan_space.h"
#include "tuner/dictionary_search.h"
#include "tuner/exhaustive_search.h"
#include "tuner/local_search.h"
#include "tuner/model_guided_search.h"
#include "tuner/random_search.h"

namespace flex {

SearchProblem search_problem(const Workload& workload, const Cluster& cluster, Passes passes) {
  return {.workload = workload,
          .cluster = cluster,
          .passes = passes,
          .plans = PlanSpace(workload, cluster).plans()};
}

SearchBudget tenth_of(const SearchProblem& problem) {
  constexpr std::int64_t kLeast = 6;
  return {.max_evaluations = std::max(kLeast, problem.num_candidates() / 10)};
}

std::string_view name(StrategyKind kind) {
  switch (kind) {
    case StrategyKind::kExhaustive:
      return "exhaustive";
    case StrategyKind::kRandom:
      return "random";
    case StrategyKind::kDictionary:
      return "dictionary";
    case StrategyKind::kModel:
      return "model";
    case StrategyKind::kLocal:
      return "local";
  }
  return "?";
}

StrategyKind parse_strategy(std::string_view text) {
  std::vector<std::string> names;
  for (const StrategyKind kind : kStrategyKinds) {
    if (text == name(kind)) return kind;
    names.emplace_back(name(kind));
  }
  const std::optional<std::string> nearest = nearest_name(text, names);
  fail("{} is no search strategy; use {}{}", quote_name(text), fmt::join(names, ", "),
       nearest ? fmt::format(" (did you mean {}?)", *nearest) : "");
}

std::unique_ptr<SearchStrategy> make_strategy(StrategyKind kind, const CostModel& costs) {
  switch (kind) {
    case StrategyKind::kExhaustive:
      return std::make_unique<ExhaustiveSearch>();
    case StrategyKind::kRandom:
      return std::make_unique<RandomSearch>();
    case StrategyKind::kDictionary:
      return std::make_unique<DictionarySearch>();
    case StrategyKind::kModel:
      return std::make_unique<ModelGuidedSearch>(costs);
    case StrategyKind::kLocal:
      return std::make_unique<LocalSearch>();
  }
  fail("strategy {} is unknown", static_cast<int>(kind));
}

}  // namespace flex
