#include "runtime/collective_call.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/require.h"

namespace flex {
namespace {

std::string_view kind_name(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllToAll:
      return "all_to_all";
    case CollectiveKind::kRaggedAllToAll:
      return "ragged_all_to_all";
    case CollectiveKind::kAllGather:
      return "all_gather";
    case CollectiveKind::kReduceScatter:
      return "reduce_scatter";
    case CollectiveKind::kAllReduce:
      return "all_reduce";
    case CollectiveKind::kBroadcast:
      return "broadcast";
    case CollectiveKind::kGatherHost:
      return "gather_host_blocking";
    case CollectiveKind::kSplit:
      return "split";
  }
  return "?";
}

void require_sizes(std::string_view operation, std::string_view span_name,
                   std::span<const std::int64_t> values, int size) {
  require(std::ssize(values) == size, "{}: {} has {} entries, the group has {} ranks", operation, span_name,
          values.size(), size);
  for (const std::int64_t value : values) {
    require(value >= 0, "{}: {} holds {}; sizes and offsets are zero or more", operation, span_name, value);
  }
}

void require_count(std::string_view operation, std::int64_t count) {
  require(count >= 0, "{}: the size is {}; it is zero or more", operation, count);
}

std::string describe_on_cpu(const CollectiveCall& call) {
  std::string operation = operation_name(call.kind, call.traffic);
  switch (call.kind) {
    case CollectiveKind::kAllToAll:
      return fmt::format("{}, {} bytes per peer", operation, call.bytes);
    case CollectiveKind::kRaggedAllToAll:
    case CollectiveKind::kSplit:
      return operation;
    case CollectiveKind::kAllGather:
    case CollectiveKind::kGatherHost:
      return fmt::format("{}, {} bytes per rank", operation, call.bytes);
    case CollectiveKind::kReduceScatter:
      return fmt::format("{}, {} {} per rank", operation, call.bytes / size_bytes(call.dtype),
                         name(call.dtype));
    case CollectiveKind::kAllReduce:
      return fmt::format("{}, {} of {} {}", operation, call.op == ReduceOp::kSum ? "sum" : "max",
                         call.bytes / size_bytes(call.dtype), name(call.dtype));
    case CollectiveKind::kBroadcast:
      return fmt::format("{}, {} bytes from rank {} of the group", operation, call.bytes, call.root);
  }
  return operation;
}

}  // namespace

CollectiveCall all_to_all_call(const AllToAllArgs& args, int size) {
  require_count("all_to_all", args.bytes_per_peer);
  require(args.parts >= 1 && args.group >= 1 && args.group % args.parts == 0 && size % args.group == 0,
          "all_to_all: parts {} must divide group {}, and group the {} ranks", args.parts, args.group, size);
  CollectiveCall call;
  call.kind = CollectiveKind::kAllToAll;
  call.traffic = args.traffic;
  call.bytes = args.bytes_per_peer;
  call.send = args.send;
  call.recv = args.recv;
  call.group = args.group;
  call.parts = args.parts;
  return call;
}

CollectiveCall ragged_all_to_all_call(const RaggedAllToAllArgs& args, int size) {
  constexpr std::string_view kName = "ragged_all_to_all";
  require_sizes(kName, "send_bytes", args.send_bytes, size);
  require_sizes(kName, "send_offset_bytes", args.send_offset_bytes, size);
  require_sizes(kName, "recv_bytes", args.recv_bytes, size);
  require_sizes(kName, "recv_offset_bytes", args.recv_offset_bytes, size);
  CollectiveCall call;
  call.kind = CollectiveKind::kRaggedAllToAll;
  call.traffic = args.traffic;
  call.send = args.send;
  call.recv = args.recv;
  call.send_bytes = args.send_bytes.data();
  call.send_offset_bytes = args.send_offset_bytes.data();
  call.recv_bytes = args.recv_bytes.data();
  call.recv_offset_bytes = args.recv_offset_bytes.data();
  return call;
}

CollectiveCall all_gather_call(const void* send, void* recv, std::int64_t bytes_per_rank, Traffic traffic) {
  require_count("all_gather", bytes_per_rank);
  CollectiveCall call;
  call.kind = CollectiveKind::kAllGather;
  call.traffic = traffic;
  call.bytes = bytes_per_rank;
  call.send = send;
  call.recv = recv;
  return call;
}

CollectiveCall reduce_scatter_call(const void* send, void* recv, std::int64_t count, DType dtype,
                                   Traffic traffic) {
  require_count("reduce_scatter", count);
  CollectiveCall call;
  call.kind = CollectiveKind::kReduceScatter;
  call.traffic = traffic;
  call.dtype = dtype;
  call.bytes = count * size_bytes(dtype);
  call.send = send;
  call.recv = recv;
  return call;
}

CollectiveCall all_reduce_call(void* data, std::int64_t count, DType dtype, ReduceOp op, Traffic traffic) {
  require_count("all_reduce", count);
  CollectiveCall call;
  call.kind = CollectiveKind::kAllReduce;
  call.traffic = traffic;
  call.dtype = dtype;
  call.op = op;
  call.bytes = count * size_bytes(dtype);
  call.recv = data;
  return call;
}

CollectiveCall broadcast_call(void* data, std::int64_t bytes, int root, int size, Traffic traffic) {
  require_count("broadcast", bytes);
  require(root >= 0 && root < size, "broadcast: root {} is not a rank of a group of {}", root, size);
  CollectiveCall call;
  call.kind = CollectiveKind::kBroadcast;
  call.traffic = traffic;
  call.root = root;
  call.bytes = bytes;
  call.recv = data;
  return call;
}

CollectiveCall gather_host_call(std::span<const std::int64_t> mine, std::span<std::int64_t> all, int size) {
  require(all.size() == mine.size() * static_cast<std::size_t>(size),
          "gather_host_blocking: room for {} numbers, but {} ranks give {} each", all.size(), size,
          mine.size());
  CollectiveCall call;
  call.kind = CollectiveKind::kGatherHost;
  call.traffic = Traffic::kControl;
  call.bytes = static_cast<std::int64_t>(mine.size_bytes());
  call.send = mine.data();
  call.recv = all.data();
  return call;
}

CollectiveCall split_call(int color, int key) {
  CollectiveCall call;
  call.kind = CollectiveKind::kSplit;
  call.traffic = Traffic::kControl;
  call.color = color;
  call.key = key;
  return call;
}

void require_reducible(const CollectiveCall& call) {
  const DType dtype = call.dtype;
  const bool narrow = dtype == DType::kF16 || dtype == DType::kBF16;
  if (call.kind == CollectiveKind::kReduceScatter) {
    if (call.device.is_cpu()) {
      require(is_floating(dtype) && !narrow,
              "reduce_scatter: {} cannot be summed on the CPU; use fp32 or fp64", name(dtype));
    } else {
      require(is_floating(dtype), "reduce_scatter: {} cannot be summed on CUDA; use fp32, fp64, fp16 or bf16",
              name(dtype));
    }
  } else if (call.kind == CollectiveKind::kAllReduce) {
    if (call.device.is_cpu()) {
      require(dtype != DType::kU8 && !narrow,
              "all_reduce: {} cannot be reduced on the CPU; use fp32, fp64, i32 or i64", name(dtype));
    } else {
      require(dtype != DType::kU8,
              "all_reduce: {} cannot be reduced on CUDA; use fp32, fp64, fp16, bf16, i32 or i64",
              name(dtype));
    }
  }
}

std::string operation_name(CollectiveKind kind, Traffic traffic) {
  return fmt::format("{} ({})", kind_name(kind), name(traffic));
}

std::string describe(const CollectiveCall& call) {
  if (!call.device.is_cuda()) return describe_on_cpu(call);
  return fmt::format("{} on {}", describe_on_cpu(call), to_string(call.device));
}

std::string group_text(std::span<const int> world_ranks) {
  constexpr std::size_t kMostListed = 16;  // a message stays one readable line
  if (world_ranks.size() <= kMostListed) return fmt::format("{{{}}}", fmt::join(world_ranks, ","));
  return fmt::format("{{{},...,{}; {} ranks}}", fmt::join(world_ranks.first(kMostListed / 2), ","),
                     world_ranks.back(), world_ranks.size());
}

std::string place_text(CollectiveKind kind, Traffic traffic, std::span<const int> world_ranks) {
  return fmt::format("{} in group {}", operation_name(kind, traffic), group_text(world_ranks));
}

std::string ranks_text(std::span<const int> ranks) {
  constexpr std::size_t kMostListed = 16;
  if (ranks.size() > kMostListed) {
    return fmt::format("ranks {}, ... ({} ranks)", fmt::join(ranks.first(kMostListed / 2), ", "),
                       ranks.size());
  }
  return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
}

bool agree(const CollectiveCall& a, const CollectiveCall& b) {
  return a.kind == b.kind && a.device == b.device && a.traffic == b.traffic && a.dtype == b.dtype &&
         a.op == b.op && a.root == b.root && a.bytes == b.bytes;
}

std::string disagreement_text(std::span<const CollectiveCall> calls, std::span<const int> callers,
                              std::span<const int> world_ranks) {
  std::vector<std::string> texts;
  for (const CollectiveCall& call : calls) texts.push_back(describe(call));
  return disagreement_text(texts, callers, world_ranks);
}

std::string disagreement_text(std::span<const std::string> calls, std::span<const int> callers,
                              std::span<const int> world_ranks) {
  std::vector<std::pair<std::string, std::vector<int>>> ranks_by_call;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    auto same = std::ranges::find(ranks_by_call, calls[i], [](const auto& entry) { return entry.first; });
    if (same == ranks_by_call.end()) same = ranks_by_call.insert(same, {calls[i], {}});
    same->second.push_back(callers[i]);
  }
  std::string message = fmt::format("the ranks of group {} do not call the same:", group_text(world_ranks));
  for (std::size_t i = 0; i < ranks_by_call.size(); ++i) {
    const auto& [text, ranks] = ranks_by_call[i];
    message += fmt::format("{} {} called {}", i == 0 ? "" : ";", ranks_text(ranks), text);
  }
  return message;
}

std::string ragged_disagreement_text(std::string_view place, int from, std::int64_t sent_bytes, int to,
                                     std::int64_t expected_bytes) {
  return fmt::format("{}: rank {} sends {} bytes to rank {}, which expects {}", place, from, sent_bytes, to,
                     expected_bytes);
}

void count_traffic(const CollectiveCall& call, int rank, std::span<const int> world_ranks,
                   TrafficCounters& counters) {
  const int size = static_cast<int>(world_ranks.size());
  switch (call.kind) {
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kRaggedAllToAll:
    case CollectiveKind::kReduceScatter:
      for (int peer = 0; peer < size; ++peer) {
        counters.add(call.traffic, world_ranks[static_cast<std::size_t>(peer)], call.bytes_to(peer));
      }
      return;
    case CollectiveKind::kAllGather:
    case CollectiveKind::kGatherHost:
      for (const int peer : world_ranks) counters.add(call.traffic, peer, call.bytes);
      return;
    case CollectiveKind::kAllReduce:
      counters.add(call.traffic, world_ranks[static_cast<std::size_t>(rank)], call.bytes);
      return;
    case CollectiveKind::kBroadcast:
      if (rank != call.root) {
        counters.add(call.traffic, world_ranks[static_cast<std::size_t>(call.root)], call.bytes);
      }
      return;
    case CollectiveKind::kSplit:
      return;
  }
}

}  // namespace flex
