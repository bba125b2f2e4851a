#include "runtime/control_member.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/require.h"
#include "runtime/reduce_in_rank_order.h"

namespace flex {
namespace {

/// The same on all members, different from all other groups of the world (but for a chance of 2^-64).
std::uint64_t child_id(std::uint64_t parent, std::uint64_t number, std::uint64_t color) {
  std::uint64_t hash = parent;
  for (const std::uint64_t word : {number, color}) {
    hash += 0x9E3779B97F4A7C15ULL + word;  // SplitMix64
    hash = (hash ^ (hash >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    hash = (hash ^ (hash >> 27U)) * 0x94D049BB133111EBULL;
    hash ^= hash >> 31U;
  }
  return hash;
}

std::string bytes_at(const void* data, std::int64_t bytes) {
  return bytes == 0 ? std::string()
                    : std::string(static_cast<const char*>(data), static_cast<std::size_t>(bytes));
}

void copy_to(void* to, const std::string& piece, std::int64_t bytes) {
  require<CommError>(std::ssize(piece) == bytes, "the control channel brought {} bytes instead of {}",
                     piece.size(), bytes);
  if (bytes > 0) std::memcpy(to, piece.data(), piece.size());
}

}  // namespace

ControlWorld::ControlWorld(JoinOptions options, int ranks_per_node, FileDescriptor listener)
    : counters_({options.world, ranks_per_node}, options.rank),
      channel_(std::move(options), std::move(listener)) {}

ControlMember::ControlMember(std::shared_ptr<ControlWorld> world, std::shared_ptr<const GroupOfRanks> group)
    : world_(std::move(world)), group_(std::move(group)) {
  const auto own = std::ranges::find(group_->world_ranks, world_->channel().rank());
  rank_ = static_cast<int>(own - group_->world_ranks.begin());
}

std::string ControlMember::description() const { return fmt::format("control channel, {} ranks", size()); }

ArrivalMessage ControlMember::arrival_of(std::uint64_t number, const CollectiveCall& call) const {
  ArrivalMessage arrival{.group = group_->id,
                         .number = number,
                         .operation = operation_name(call.kind, call.traffic),
                         .call = describe(call)};
  if (call.kind == CollectiveKind::kRaggedAllToAll) {
    arrival.sent_bytes.assign(call.send_bytes, call.send_bytes + size());
    arrival.expected_bytes.assign(call.recv_bytes, call.recv_bytes + size());
  }
  return arrival;
}

std::vector<std::string> ControlMember::pieces_of(const CollectiveCall& call) const {
  switch (call.kind) {
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kRaggedAllToAll:
    case CollectiveKind::kReduceScatter: {
      std::vector<std::string> pieces;
      for (int peer = 0; peer < size(); ++peer) {
        pieces.push_back(bytes_at(call.piece_for(peer), call.bytes_to(peer)));
      }
      return pieces;
    }
    case CollectiveKind::kAllReduce:
      return {bytes_at(call.recv, call.bytes)};
    case CollectiveKind::kBroadcast:
      return {rank_ == call.root ? bytes_at(call.recv, call.bytes) : std::string()};
    default:
      return {bytes_at(call.send, call.bytes)};
  }
}

std::vector<std::string> ControlMember::meet(std::uint64_t number, const CollectiveCall& call) {
  ArrivalMessage arrival = arrival_of(number, call);
  arrival.pieces = pieces_of(call);
  if (size() == 1) {
    channel().require_alive();
    return std::move(arrival.pieces);
  }
  return channel().exchange_blocking(arrival);
}

void ControlMember::run(std::uint64_t number, const CollectiveCall& call) {
  FlightRecord& record = channel().record();
  const std::uint64_t ticket = record.call(group_, number, call);
  record.enter(ticket);
  place(call, meet(number, call));
  record.finish(ticket);
}

void ControlMember::place(const CollectiveCall& call, const std::vector<std::string>& pieces) const {
  switch (call.kind) {
    case CollectiveKind::kReduceScatter:
    case CollectiveKind::kAllReduce:
      return reduce(call, pieces);
    case CollectiveKind::kBroadcast:
      return copy_to(call.recv, pieces[static_cast<std::size_t>(call.root)], call.bytes);
    default:
      for (int peer = 0; peer < size(); ++peer) {
        copy_to(call.place_of(peer), pieces[static_cast<std::size_t>(peer)], call.bytes_from(peer));
      }
  }
}

void ControlMember::reduce(const CollectiveCall& call, const std::vector<std::string>& pieces) const {
  for (const std::string& piece : pieces) {
    require<CommError>(std::ssize(piece) == call.bytes, "the control channel brought {} bytes instead of {}",
                       piece.size(), call.bytes);
  }
  with_reduced_type(call.dtype, [&]<class T>(T) {
    reduce_in_rank_order<T>(
        size(), call.bytes / static_cast<std::int64_t>(sizeof(T)), call.op,
        [&](int p) { return reinterpret_cast<const T*>(pieces[static_cast<std::size_t>(p)].data()); },
        [&](const T* block, std::int64_t begin, std::int64_t block_size) {
          std::copy_n(block, block_size, static_cast<T*>(call.recv) + begin);
        });
  });
}

ControlMember::Part ControlMember::split_blocking(int color, int key) {
  const std::array<int, 2> mine = {color, key};
  std::vector<std::array<int, 2>> all(group_->world_ranks.size());
  CollectiveCall call = split_call(color, key);
  call.bytes = sizeof(mine);
  call.send = mine.data();
  call.recv = all.data();
  const std::uint64_t number = draw_number();
  run(number, call);
  const auto pair_of = [&](int peer) { return all[static_cast<std::size_t>(peer)]; };
  std::vector<int> members;
  std::vector<int> colors;
  for (int peer = 0; peer < size(); ++peer) {
    colors.push_back(pair_of(peer)[0]);
    if (pair_of(peer)[0] == color) members.push_back(peer);
  }
  std::ranges::stable_sort(members, {}, [&](int peer) { return pair_of(peer)[1]; });
  std::ranges::sort(colors);
  colors.erase(std::unique(colors.begin(), colors.end()), colors.end());
  Part part;
  part.color = static_cast<int>(std::ranges::find(colors, color) - colors.begin());
  part.key = static_cast<int>(std::ranges::find(members, rank_) - members.begin());
  for (int& member : members) member = group_->world_ranks[static_cast<std::size_t>(member)];
  part.group = std::make_shared<const GroupOfRanks>(
      GroupOfRanks{child_id(group_->id, number, static_cast<std::uint64_t>(part.color)), std::move(members)});
  channel().declare(*part.group);
  return part;
}

std::shared_ptr<CollectiveEngine> ControlMember::split(int color, int key) {
  return std::make_shared<ControlMember>(world_, split_blocking(color, key).group);
}

std::shared_ptr<const GroupOfRanks> world_group(ControlWorld& world) {
  GroupOfRanks group;
  for (int rank = 0; rank < world.channel().world(); ++rank) group.world_ranks.push_back(rank);
  world.channel().declare(group);
  return std::make_shared<const GroupOfRanks>(std::move(group));
}

std::unique_ptr<Communicator> make_control_world(JoinOptions options, int ranks_per_node,
                                                 FileDescriptor listener) {
  auto world = std::make_shared<ControlWorld>(std::move(options), ranks_per_node, std::move(listener));
  auto group = world_group(*world);
  return make_communicator(std::make_shared<ControlMember>(std::move(world), std::move(group)));
}

}  // namespace flex
