#include "runtime/nccl_member.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "base/require.h"
#include "kernels/cuda_check.h"
#include "runtime/rank_order_sum_cuda.h"

namespace flex {
namespace {

constexpr std::int64_t kUnitBytes = 16;  // the widest access: pieces begin where it may

std::int64_t round_up(std::int64_t bytes) { return (bytes + kUnitBytes - 1) / kUnitBytes * kUnitBytes; }

cudaStream_t native(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

void queue_copy(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  if (bytes == 0 || to == from) return;
  FLEX_CUDA_CHECK(
      cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, native(stream)));
}

void send(const void* from, std::int64_t bytes, int peer, ncclComm_t comm, const Stream& stream) {
  if (bytes == 0) return;  // the peer expects nothing, and asks for nothing
  check_nccl(ncclSend(from, static_cast<std::size_t>(bytes), ncclInt8, peer, comm, native(stream)),
             "ncclSend", comm);
}

void receive(void* to, std::int64_t bytes, int peer, ncclComm_t comm, const Stream& stream) {
  if (bytes == 0) return;
  check_nccl(ncclRecv(to, static_cast<std::size_t>(bytes), ncclInt8, peer, comm, native(stream)), "ncclRecv",
             comm);
}

}  // namespace

NcclMember::NcclMember(std::shared_ptr<NcclWorld> world, std::shared_ptr<const GroupOfRanks> group,
                       std::shared_ptr<NcclComm> comm, bool checks_calls)
    : ControlMember(world, std::move(group)),
      nccl_world_(std::move(world)),
      comm_(std::move(comm)),
      checks_calls_(checks_calls),
      last_(nccl_world_->device()) {}

NcclMember::~NcclMember() { nccl_world_->retire(comm_); }

std::string NcclMember::description() const { return fmt::format("NCCL, {} ranks", size()); }

void NcclMember::issue(const CollectiveCall& call, Stream& stream) {
  require(
      stream.device() == nccl_world_->device(), "{}: the stream runs on {}, this rank's communicators on {}",
      operation_name(call.kind, call.traffic), to_string(stream.device()), to_string(nccl_world_->device()));
  const std::lock_guard lock(mutex_);
  channel().require_alive();
  const std::uint64_t number = draw_number();
  if (checks_calls_ && size() > 1) {
    ArrivalMessage arrival = arrival_of(number, call);
    arrival.pieces.emplace_back();
    static_cast<void>(channel().exchange_blocking(arrival));
  }
  try {
    FLEX_CUDA_CHECK(cudaSetDevice(nccl_world_->device().index));
    if (has_last_ && last_stream_ != stream.native()) stream.wait(last_);
    std::unique_ptr<NcclOperation> operation = nccl_world_->new_operation();
    operation->ticket = channel().record().call(group(), number, call);
    operation->id = {group()->id, number};
    stream.record(operation->begin);
    NcclOperation& watched = nccl_world_->watch(std::move(operation));
    queue(call, stream);
    stream.record(watched.end);
    stream.record(last_);
    watched.queued.store(true);
    last_stream_ = stream.native();
    has_last_ = true;
  } catch (const std::exception& error) {
    if (channel().aborted()) throw CommError(channel().reason());
    channel().abort(fmt::format("rank {} failed in {}: {}", channel().rank(),
                                place_text(call.kind, call.traffic, world_ranks()), error.what()));
    throw;
  }
}

void NcclMember::queue(const CollectiveCall& call, Stream& stream) {
  switch (call.kind) {
    case CollectiveKind::kAllToAll:
    case CollectiveKind::kRaggedAllToAll:
      return exchange_pieces(call, stream);
    case CollectiveKind::kAllGather:
      return all_gather(call, stream);
    case CollectiveKind::kBroadcast:
      return broadcast(call, stream);
    case CollectiveKind::kReduceScatter:
      return reduce_scatter(call, stream);
    case CollectiveKind::kAllReduce:
      return all_reduce(call, stream);
    case CollectiveKind::kGatherHost:
    case CollectiveKind::kSplit:
      fail<CommError>("{} is no call on a device", operation_name(call.kind, call.traffic));
  }
}

void NcclMember::group_calls(const CollectiveCall& call, const std::function<void(ncclComm_t)>& calls) {
  if (comm_ != nullptr) comm_->group(operation_name(call.kind, call.traffic), calls);
}

void NcclMember::exchange_pieces(const CollectiveCall& call, Stream& stream) {
  queue_copy(call.place_of(rank()), call.piece_for(rank()), call.bytes_from(rank()), stream);
  group_calls(call, [&](ncclComm_t comm) {
    for (int i = 1; i < size(); ++i) {  // each rank begins elsewhere
      const int to = (rank() + i) % size();
      const int from = (rank() + size() - i) % size();
      send(call.piece_for(to), call.bytes_to(to), to, comm, stream);
      receive(call.place_of(from), call.bytes_from(from), from, comm, stream);
    }
  });
}

void NcclMember::all_gather(const CollectiveCall& call, Stream& stream) {
  if (call.bytes == 0) return;
  if (comm_ == nullptr) return queue_copy(call.recv, call.send, call.bytes, stream);
  group_calls(call, [&](ncclComm_t comm) {
    check_nccl(ncclAllGather(call.send, call.recv, static_cast<std::size_t>(call.bytes), ncclInt8, comm,
                             native(stream)),
               "ncclAllGather", comm);
  });
}

void NcclMember::broadcast(const CollectiveCall& call, Stream& stream) {
  if (call.bytes == 0) return;
  group_calls(call, [&](ncclComm_t comm) {
    check_nccl(ncclBroadcast(call.recv, call.recv, static_cast<std::size_t>(call.bytes), ncclInt8, call.root,
                             comm, native(stream)),
               "ncclBroadcast", comm);
  });
}

void NcclMember::reduce_scatter(const CollectiveCall& call, Stream& stream) {
  if (call.bytes == 0) return;
  const std::int64_t stride = round_up(call.bytes);
  char* const pieces = scratch(stride * size());
  group_calls(call, [&](ncclComm_t comm) {
    for (int i = 1; i < size(); ++i) {
      const int to = (rank() + i) % size();
      const int from = (rank() + size() - i) % size();
      send(call.piece_for(to), call.bytes, to, comm, stream);
      receive(pieces + from * stride, call.bytes, from, comm, stream);
    }
  });
  reduce(call, call.bytes, stride, call.piece_for(rank()), call.recv, stream);
}

/// Each rank reduces its share of the elements and sends the result to all.
void NcclMember::all_reduce(const CollectiveCall& call, Stream& stream) {
  if (size() == 1 || call.bytes == 0) return;
  const std::int64_t units = (call.bytes + kUnitBytes - 1) / kUnitBytes;
  const auto begin_of = [&](std::int64_t peer) {
    return std::min(call.bytes, units * peer / size() * kUnitBytes);
  };
  const auto bytes_of = [&](std::int64_t peer) { return begin_of(peer + 1) - begin_of(peer); };
  char* const data = static_cast<char*>(call.recv);
  const std::int64_t own_bytes = bytes_of(rank());
  const std::int64_t stride = round_up(own_bytes);
  char* const pieces = scratch(stride * size());
  group_calls(call, [&](ncclComm_t comm) {
    for (int i = 1; i < size(); ++i) {
      const int to = (rank() + i) % size();
      const int from = (rank() + size() - i) % size();
      send(data + begin_of(to), bytes_of(to), to, comm, stream);
      receive(pieces + from * stride, own_bytes, from, comm, stream);
    }
  });
  char* const own = data + begin_of(rank());
  reduce(call, own_bytes, stride, own, own, stream);
  group_calls(call, [&](ncclComm_t comm) {
    for (int i = 1; i < size(); ++i) {
      const int to = (rank() + i) % size();
      const int from = (rank() + size() - i) % size();
      send(own, own_bytes, to, comm, stream);
      receive(data + begin_of(from), bytes_of(from), from, comm, stream);
    }
  });
}

void NcclMember::reduce(const CollectiveCall& call, std::int64_t bytes, std::int64_t stride, const void* own,
                        void* to, Stream& stream) {
  if (bytes == 0) return;
  char* const pieces = scratch_.as<char>();
  // What a launch does not take comes in the next one, after what it has summed; fp16 and bf16 are rounded in
  // between. This rank's own place among the pieces is free to hold that.
  char* const sum = pieces + rank() * stride;
  int next = 0;
  while (next < size()) {
    RankOrderReductionArgs args;
    args.count = bytes / size_bytes(call.dtype);
    args.dtype = call.dtype;
    args.op = call.op;
    if (next > 0) args.from[args.num_ranks++] = sum;
    for (; next < size() && args.num_ranks < RankOrderReductionArgs::kMostRanks; ++next) {
      args.from[args.num_ranks++] = next == rank() ? own : pieces + next * stride;
    }
    args.to[0] = next == size() ? to : sum;
    args.num_to = 1;
    reduce_in_rank_order_cuda(args, stream);
  }
}

char* NcclMember::scratch(std::int64_t bytes) {
  if (scratch_bytes_ < bytes) {
    await_device();
    scratch_ = Tensor();  // first the old one goes
    scratch_ = Tensor(DType::kU8, {bytes}, nccl_world_->device());
    scratch_bytes_ = bytes;
  }
  return scratch_.as<char>();
}

void NcclMember::await_device() {
  while (has_last_ && !last_.done()) {
    channel().require_alive();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

std::shared_ptr<CollectiveEngine> NcclMember::split(int color, int key) {
  const std::lock_guard lock(mutex_);
  Part part = split_blocking(color, key);
  FLEX_CUDA_CHECK(cudaSetDevice(nccl_world_->device().index));
  await_device();  // NCCL splits a communicator at rest
  std::shared_ptr<NcclComm> child;
  if (comm_ != nullptr) {
    const bool alone = part.group->world_ranks.size() == 1;
    try {
      child = nccl_world_->adopt(comm_->split(alone ? NCCL_SPLIT_NOCOLOR : part.color, part.key));
    } catch (const CommError& error) {
      channel().abort(fmt::format("rank {} failed in {}: {}", channel().rank(),
                                  place_text(CollectiveKind::kSplit, Traffic::kControl, world_ranks()),
                                  error.what()));
      throw CommError(channel().reason());
    }
  }
  return std::make_shared<NcclMember>(nccl_world_, std::move(part.group), std::move(child), checks_calls_);
}

}  // namespace flex
