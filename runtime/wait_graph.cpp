#include "runtime/wait_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <set>

#include "runtime/collective_call.h"

namespace flex {
namespace {

/// Waits that can be reached from `own`, nearest first; `own` itself leads.
std::vector<std::size_t> reachable_waits(std::span<const PeerWait> waits, std::size_t own) {
  std::vector<std::size_t> order = {own};
  std::vector<bool> seen(waits.size(), false);
  seen[own] = true;
  for (std::size_t next = 0; next < order.size(); ++next) {
    for (const int rank : waits[order[next]].missing) {
      for (std::size_t i = 0; i < waits.size(); ++i) {
        if (seen[i] || waits[i].rank != rank) continue;
        seen[i] = true;
        order.push_back(i);
      }
    }
  }
  return order;
}

std::string absence(const PeerWait& at, const std::vector<int>& culprits, const PeerWait& own,
                    std::chrono::milliseconds deadline) {
  if (at.place == own.place) {
    return fmt::format("{}: {} did not arrive within {} ms", at.place, ranks_text(culprits),
                       deadline.count());
  }
  return fmt::format("{}: {} did not arrive (rank {} waited {} ms in {})", at.place, ranks_text(culprits),
                     own.rank, deadline.count(), own.place);
}

}  // namespace

std::string explain_wait(std::span<const PeerWait> waits, std::size_t own,
                         std::chrono::milliseconds deadline) {
  const std::vector<std::size_t> order = reachable_waits(waits, own);
  std::set<int> waiting;
  for (const PeerWait& wait : waits) waiting.insert(wait.rank);

  for (const std::size_t i : order) {
    std::vector<int> idle;
    std::ranges::copy_if(waits[i].missing, std::back_inserter(idle),
                         [&](int rank) { return !waiting.contains(rank); });
    if (!idle.empty()) return absence(waits[i], idle, waits[own], deadline);
  }
  // A circle. Where all calls that are waited for were made, the ranks' orders differ, and nobody is at fault
  // alone.
  std::set<int> late;
  for (const std::size_t i : order) late.insert(waits[i].not_called.begin(), waits[i].not_called.end());
  const bool all_late =
      std::ranges::all_of(order, [&](std::size_t i) { return late.contains(waits[i].rank); });
  if (!all_late) {
    for (const std::size_t i : order) {
      if (!waits[i].not_called.empty()) return absence(waits[i], waits[i].not_called, waits[own], deadline);
    }
  }
  std::string circle;
  for (const std::size_t i : order) {
    circle += fmt::format("{}rank {} waits for {} in {}", circle.empty() ? "" : "; ", waits[i].rank,
                          ranks_text(waits[i].missing), waits[i].place);
  }
  return fmt::format("after {} ms ranks wait for each other: {}", deadline.count(), circle);
}

}  // namespace flex
