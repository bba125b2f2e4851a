#include "runtime/pass_graphs.h"

#include <algorithm>

#include "base/require.h"

namespace flex {
namespace {

constexpr std::size_t kMostEntries = 256;  // passes that are remembered, with a graph or not
constexpr int kMostKept = 128;
// A graph that was not used for so many passes may be dropped for another.
constexpr std::uint64_t kUnusedRuns = 1000;

}  // namespace

void PassGraphs::set_policy(const GraphPolicy& policy) {
  require(policy.repeats >= 0 && policy.kept >= 0,
          "graphs: {} repeats and {} kept; both are zero (no graphs) or more", policy.repeats, policy.kept);
  require(policy.kept <= kMostKept, "graphs: {} kept; at most {} can be", policy.kept, kMostKept);
  policy_ = policy;
  clear();
}

PassGraphs::Entry& PassGraphs::entry_of(const PassKey& key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found != entries_.end()) return *found;
  if (entries_.capacity() < kMostEntries) entries_.reserve(kMostEntries);
  if (entries_.size() < kMostEntries) return entries_.emplace_back(Entry{.key = key});
  Entry& oldest = *std::ranges::min_element(entries_, {}, [](const Entry& entry) {
    return entry.graph ? ~std::uint64_t{0} : entry.last_run;  // `kept` is below the number of entries
  });
  oldest = {.key = key};
  return oldest;
}

bool PassGraphs::make_place() {
  const auto with_graph = [](const Entry& entry) { return entry.graph.has_value(); };
  if (std::ranges::count_if(entries_, with_graph) < policy_.kept) return true;
  Entry& oldest = *std::ranges::min_element(
      entries_, {}, [](const Entry& entry) { return entry.graph ? entry.last_run : ~std::uint64_t{0}; });
  if (num_runs_ - oldest.last_run < kUnusedRuns) return false;
  oldest.graph.reset();
  oldest.seen = 0;
  return true;
}

void PassGraphs::run(const PassKey& key, Stream& stream, const std::function<void()>& queue) {
  ++num_runs_;
  Entry& entry = entry_of(key);
  entry.last_run = num_runs_;
  if (!entry.graph) {
    if (entry.seen < policy_.repeats || !make_place()) {
      ++entry.seen;
      return queue();
    }
    entry.graph = StreamGraph::capture(stream, queue);
    ++counts_.captured;
  }
  entry.graph->launch(stream);
  ++counts_.replayed;
}

}  // namespace flex
