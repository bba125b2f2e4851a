#include "profiler/cupti_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "profiler/cupti_abi.h"

namespace flex {
namespace {

// The record, or nothing if it is cut off.
template <class T>
std::optional<T> read(const void* record, std::size_t available_bytes) {
  if (available_bytes < sizeof(T)) return std::nullopt;
  T copy;
  std::memcpy(&copy, record, sizeof(T));
  return copy;
}

/// @source CUpti_ActivityMemcpyKind
std::string memcpy_name(std::uint8_t kind) {
  constexpr std::array<std::string_view, 11> kDirections = {"",     "HtoD", "DtoH", "HtoA", "AtoH", "AtoA",
                                                            "AtoD", "DtoA", "DtoD", "HtoH", "PtoP"};
  if (kind == 0 || kind >= kDirections.size()) return "memcpy";
  return fmt::format("memcpy {}", kDirections[kind]);
}

/// @source CUpti_ActivityOverheadKind
std::string overhead_name(std::uint32_t kind) {
  constexpr std::uint32_t kDriverCompiler = 1;
  constexpr int kCuptiShift = 16;
  constexpr std::array<std::string_view, 9> kNames = {"",
                                                      "buffer flush",
                                                      "instrumentation",
                                                      "resource",
                                                      "module loading",
                                                      "function loading",
                                                      "command buffer full",
                                                      "buffer request",
                                                      "unified memory"};
  if (kind == kDriverCompiler) return "driver compiler";
  const std::uint32_t index = kind >> kCuptiShift;
  if (index == 0 || index >= kNames.size()) return fmt::format("cupti overhead {}", kind);
  return fmt::format("cupti {}", kNames[index]);
}

bool has_times(std::uint64_t start, std::uint64_t end) {
  return start != 0 && end >= start && end <= std::uint64_t{std::numeric_limits<std::int64_t>::max()};
}

}  // namespace

void CuptiRecords::add(const void* record, std::size_t available_bytes) {
  const auto header = read<cupti::Record>(record, available_bytes);
  const auto with = [&]<class T>(std::optional<T> fields, auto&& use) {
    fields ? use(*fields) : static_cast<void>(++counts_.too_short);
  };
  if (!header) {
    ++counts_.too_short;
    return;
  }
  switch (header->kind) {
    case cupti::kConcurrentKernel:
      with(read<cupti::KernelRecord>(record, available_bytes), [&](const cupti::KernelRecord& kernel) {
        add_activity({.kind = CuptiActivity::Kind::kKernel,
                      .name = kernel.name == nullptr ? "kernel" : kernel.name,
                      .device = kernel.device_id,
                      .stream = kernel.stream_id,
                      .correlation = kernel.correlation_id,
                      .graph_node = kernel.graph_node_id},
                     kernel.start, kernel.end);
      });
      break;
    case cupti::kMemcpy:
    case cupti::kMemset:
      with(read<cupti::CopyRecord>(record, available_bytes), [&](const cupti::CopyRecord& copy) {
        const bool is_memcpy = copy.kind == cupti::kMemcpy;
        add_activity({.kind = is_memcpy ? CuptiActivity::Kind::kMemcpy : CuptiActivity::Kind::kMemset,
                      .name = is_memcpy ? memcpy_name(copy.copy_kind) : "memset",
                      .device = copy.device_id,
                      .stream = copy.stream_id,
                      .correlation = copy.correlation_id,
                      .graph_node = copy.graph_node_id,
                      .bytes = static_cast<std::int64_t>(copy.bytes)},
                     copy.start, copy.end);
      });
      break;
    case cupti::kExternalCorrelation:
      with(read<cupti::ExternalCorrelationRecord>(record, available_bytes), [&](const auto& correlation) {
        ++counts_.correlations;
        const std::uint64_t id = correlation.external_id;
        const bool is_ours = id == kReservedWorkId || unpack_work_id(id);
        if (correlation.external_kind != cupti::kExternalCustom0 || !is_ours) return;
        correlate(correlation.correlation_id, {.id = id});
      });
      break;
    case cupti::kOverhead:
      with(read<cupti::OverheadRecord>(record, available_bytes), [&](const cupti::OverheadRecord& overhead) {
        if (!has_times(overhead.start, overhead.end)) {
          ++counts_.without_times;
          return;
        }
        ++counts_.overheads;
        overheads_.push_back({.name = overhead_name(overhead.overhead_kind),
                              .begin_ns = static_cast<std::int64_t>(overhead.start),
                              .end_ns = static_cast<std::int64_t>(overhead.end)});
      });
      break;
    case cupti::kRuntime:
    case cupti::kDriver:
      ++counts_.calls;
      break;
    default:
      ++counts_.unknown;
  }
}

void CuptiRecords::add_activity(CuptiActivity activity, std::uint64_t start, std::uint64_t end) {
  if (!has_times(start, end)) {
    ++counts_.without_times;
    return;
  }
  ++counts_.activities;
  activity.begin_ns = static_cast<std::int64_t>(start);
  activity.end_ns = static_cast<std::int64_t>(end);
  activities_.push_back(std::move(activity));
}

// Of two ids the smaller one stays, whichever came first.
void CuptiRecords::correlate(std::uint32_t correlation, External external) {
  const auto [place, is_new] = external_.try_emplace(correlation, external);
  if (is_new) return;
  External& kept = place->second;
  const bool differs = kept.id != external.id;
  if (kept.contradicted && external.contradicted) --counts_.contradicted;  // each side counted it
  if (!kept.contradicted && !external.contradicted && differs) ++counts_.contradicted;
  kept = {.id = std::min(kept.id, external.id),
          .contradicted = differs || kept.contradicted || external.contradicted};
}

void CuptiRecords::merge(CuptiRecords&& other) {
  counts_ += other.counts_;
  std::ranges::move(other.activities_, std::back_inserter(activities_));
  std::ranges::move(other.overheads_, std::back_inserter(overheads_));
  if (external_.empty()) {
    external_ = std::move(other.external_);
  } else {
    for (const auto& [correlation, external] : other.external_) correlate(correlation, external);
  }
  for (const auto& [node, id] : other.node_work_) name_node(node, id);
  other = {};
}

void CuptiRecords::name_node(std::uint64_t node, std::uint64_t id) {
  if (id == 0) {
    node_work_.erase(node);
  } else {
    node_work_[node] = id;
  }
}

void CuptiRecords::clone_node(std::uint64_t node, std::uint64_t original) {
  const auto found = node_work_.find(original);
  if (found != node_work_.end()) name_node(node, found->second);
}

std::vector<CuptiActivity> CuptiRecords::take(std::int32_t local_rank, const Keep& keep) {
  static_cast<void>(take_reserved());  // what was recorded for another rank's sake
  forget_reserved();
  const auto goes = [&](std::uint64_t id, const std::optional<WorkId>& work) {
    return work && work->local_rank == local_rank && !(keep && keep(id));
  };
  std::vector<CuptiActivity> taken;
  // Says whether it is the rank's.
  const auto join = [&](CuptiActivity& activity) {
    const auto external = external_.find(activity.correlation);
    if (external == external_.end()) return false;
    const std::optional<WorkId> launch = unpack_work_id(external->second.id);
    if (!goes(external->second.id, launch)) return false;
    activity.launch = *launch;
    activity.work = *launch;
    const auto node = activity.graph_node == 0 ? node_work_.end() : node_work_.find(activity.graph_node);
    if (node != node_work_.end()) {
      activity.work = unpack_work_id(node->second).value_or(*launch);
      activity.work.iteration = launch->iteration;
      activity.work.local_rank = local_rank;
    }
    return true;
  };
  std::vector<CuptiActivity> kept;
  for (CuptiActivity& activity : activities_) {
    const bool is_taken = join(activity);
    (is_taken ? taken : kept).push_back(std::move(activity));
  }
  activities_ = std::move(kept);
  std::erase_if(external_,
                [&](const auto& entry) { return goes(entry.second.id, unpack_work_id(entry.second.id)); });
  drop_oldest_waiting();
  std::ranges::sort(taken, {}, [](const CuptiActivity& activity) {
    return std::tie(activity.begin_ns, activity.end_ns, activity.device, activity.stream,
                    activity.correlation, activity.graph_node, activity.name);
  });
  return taken;
}

void CuptiRecords::drop_oldest_waiting() {
  const auto waits = [&](const CuptiActivity& activity) { return !external_.contains(activity.correlation); };
  const auto num_waiting = static_cast<std::size_t>(std::ranges::count_if(activities_, waits));
  std::size_t surplus = num_waiting - std::min(num_waiting, kMaxWaiting);
  counts_.unattributed += static_cast<std::int64_t>(surplus);
  if (surplus == 0) return;
  std::vector<CuptiActivity> kept;
  for (CuptiActivity& activity : activities_) {
    if (surplus > 0 && waits(activity)) {
      --surplus;
    } else {
      kept.push_back(std::move(activity));
    }
  }
  activities_ = std::move(kept);
}

std::size_t CuptiRecords::take_reserved() {
  const auto is_reserved = [&](std::uint32_t correlation) {
    const auto external = external_.find(correlation);
    return external != external_.end() && external->second.id == kReservedWorkId;
  };
  const std::size_t num_taken =
      std::erase_if(activities_, [&](const auto& activity) { return is_reserved(activity.correlation); });
  if (num_taken > 0) forget_reserved();
  return num_taken;
}

void CuptiRecords::forget_reserved() {
  std::erase_if(external_, [](const auto& entry) { return entry.second.id == kReservedWorkId; });
}

std::vector<CuptiOverhead> CuptiRecords::take_overheads() {
  std::ranges::sort(overheads_, {}, [](const CuptiOverhead& overhead) {
    return std::tie(overhead.begin_ns, overhead.end_ns, overhead.name);
  });
  return std::exchange(overheads_, {});
}

void CuptiRecords::forget() {
  counts_.unattributed += static_cast<std::int64_t>(activities_.size());
  activities_.clear();
  external_.clear();
}

}  // namespace flex
