#include "runtime/routing_choices.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "base/require.h"

namespace flex {
namespace {

void check(const PolicyBenchmark& benchmark) {
  const std::int64_t num_experts = benchmark.config.num_experts;
  require(benchmark.top_k >= 1 && benchmark.top_k <= num_experts,
          "top_k is {}; with {} experts it is from 1 to {}", benchmark.top_k, num_experts, num_experts);
  const double most = static_cast<double>(num_experts) / static_cast<double>(benchmark.top_k);
  require(benchmark.drift >= 1 && benchmark.drift <= most,
          "the capacity drifts by a factor of {}; with {} experts and k = {} it is from 1 to {}",
          benchmark.drift, num_experts, benchmark.top_k, most);
  require(!benchmark.imbalance || benchmark.drift == 1,
          "the imbalance {} says by itself how the capacity moves; leave the drift of {} out",
          name(*benchmark.imbalance), benchmark.drift);
}

GenerateOptions named_options(const PolicyBenchmark& benchmark, int world) {
  if (!benchmark.imbalance) return {};
  GenerateOptions options{.imbalance = *benchmark.imbalance,
                          .seed = benchmark.seed,
                          .num_steps = benchmark.iterations,
                          .header = {.model = "policy benchmark",
                                     .world = world,
                                     .ranks_per_node = world,
                                     .layers = {trace_layer_of(benchmark.config, forward_call_of(benchmark),
                                                               benchmark.num_tokens, world)}}};
  static_cast<void>(generated_header(options));  // checks the sizes
  return options;
}

}  // namespace

RoutingChoices::RoutingChoices(const PolicyBenchmark& benchmark, int rank, int world)
    : benchmark_(benchmark), rank_(rank) {
  check(benchmark);
  named_ = named_options(benchmark, world);
}

std::vector<std::int64_t> RoutingChoices::draw(int iteration, PhiloxStream& random) const {
  return benchmark_.imbalance ? draw_named(iteration, random) : draw_drifting(iteration, random);
}

int RoutingChoices::fullest_iteration() const {
  if (!benchmark_.imbalance) return benchmark_.iterations / 2;
  int fullest = 0;
  std::int64_t largest = -1;
  for (int iteration = 0; iteration < benchmark_.iterations; ++iteration) {
    const SparseCounts counts = generated_counts(named_, iteration, 0);
    const std::int64_t needed = summarize(counts, benchmark_.config.num_experts).needed_capacity;
    if (needed <= largest) continue;
    largest = needed;
    fullest = iteration;
  }
  return fullest;
}

std::vector<std::int64_t> RoutingChoices::draw_named(int iteration, PhiloxStream& random) const {
  // Each expert as often as it is chosen, experts in order. None is chosen more than t times, so that entries
  // t apart differ: those are one token's.
  std::vector<std::int64_t> dealt;
  const SparseCounts counts = generated_counts(named_, iteration, 0);
  for (std::size_t i = 0; i < counts.num_rows(); ++i) {
    const SparseCounts::Row row = counts.row(i);
    if (row.source != rank_) continue;
    for (const ExpertCount& one : row.experts) {
      dealt.insert(dealt.end(), static_cast<std::size_t>(one.choices), one.expert);
    }
  }
  const auto k = static_cast<std::size_t>(benchmark_.top_k);
  const std::size_t num_tokens = dealt.size() / k;
  std::vector<std::int64_t> choices;
  choices.reserve(dealt.size());
  std::vector<std::size_t> order(num_tokens);
  for (std::size_t i = 0; i < num_tokens; ++i) {  // Fisher-Yates, from the inside out
    const auto j = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i) + 1));
    order[i] = order[j];
    order[j] = i;
  }
  for (const std::size_t token : order) {
    // Which of them is first is drawn too: otherwise the lower experts always would be.
    const auto first = static_cast<std::size_t>(random.below(benchmark_.top_k));
    for (std::size_t j = 0; j < k; ++j) choices.push_back(dealt[token + (first + j) % k * num_tokens]);
  }
  return choices;
}

/// The share of tokens whose first choice is expert 0 whatever else they would take. A share p lets expert 0
/// have p + (1 - p) k / E of the tokens, which is the drift times k / E at most.
double RoutingChoices::hot_share(int iteration) const {
  const double phase = static_cast<double>(iteration) / benchmark_.iterations;
  const double even =
      static_cast<double>(benchmark_.top_k) / static_cast<double>(benchmark_.config.num_experts);
  const double most = even >= 1 ? 0 : (benchmark_.drift - 1) * even / (1 - even);
  return most * (1 - std::cos(2 * std::numbers::pi * phase)) / 2;
}

std::vector<std::int64_t> RoutingChoices::draw_drifting(int iteration, PhiloxStream& random) const {
  const double share = hot_share(iteration);
  const auto k = static_cast<std::size_t>(benchmark_.top_k);
  std::vector<std::int64_t> choices(static_cast<std::size_t>(benchmark_.num_tokens) * k);
  for (std::size_t begin = 0; begin < choices.size(); begin += k) {
    const std::span chosen(choices.data() + begin, k);
    for (std::size_t j = 0; j < k; ++j) {
      const auto before = chosen.first(j);
      do {
        chosen[j] = random.below(benchmark_.config.num_experts);
      } while (std::ranges::find(before, chosen[j]) != before.end());
    }
    if (random.uniform() >= share) continue;
    const auto hot = std::ranges::find(chosen, 0);
    if (hot == chosen.end()) {
      chosen.front() = 0;
    } else {
      std::swap(chosen.front(), *hot);
    }
  }
  return choices;
}

}  // namespace flex
