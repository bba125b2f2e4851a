#include <array>
#include <memory>
#include <random>

#include "tests/runtime/cuda_ranks.h"

/// Random collectives between work that takes long here and there, so that a wait that is missing shows: a
/// buffer is filled late before its collective, and overwritten at once after it.
namespace flex::testing {
namespace {

constexpr int kRounds = 80;
constexpr std::int64_t kCount = 2000;  ///< elements of a piece
constexpr std::int64_t kPieceBytes = kCount * 4;
constexpr std::int64_t kBallastBytes = std::int64_t{64} << 20;  ///< its fill takes tens of microseconds
constexpr int kOverwritten = 0x7F;  ///< bytes of a float that is far from every sum

/// Element `i` of piece `place` of what `rank` of the world has in `round`: sums are exact in fp32, and never
/// 0, which an untouched place holds.
double value_of(int round, int rank, int place, std::int64_t i) {
  return (round * 7 + rank * 3 + place * 5) % 97 + 1 + static_cast<double>(i % 3);
}

/// Elements of the ragged exchange of `round` from rank to rank of a group.
std::int64_t ragged_count(int round, int from, int to) {
  return (from + to + round) % 3 == 0 ? 0 : kCount / (1 + (2 * from + to) % 4);
}

enum class Kind : std::uint8_t { kAllToAll, kRagged, kGather, kScatter, kReduce, kBroadcast };

/// One rank's side of the test.
class Rank {
 public:
  explicit Rank(Communicator& world)
      : world_(world),
        node_(world.split(world.rank() / 2, 0)),
        rail_(world.split(world.rank() % 2, 0)),
        own_(9000U + static_cast<unsigned>(world.rank())),
        log_(Tensor::zeros(DType::kF32, {kRounds, row()}, kGpu)),
        ballast_(Tensor::zeros(DType::kU8, {kBallastBytes}, kGpu)) {
    std::vector<double> values;
    for (int round = 0; round < kRounds; ++round) {
      for (int place = 0; place < world.size(); ++place) {
        for (std::int64_t i = 0; i < kCount; ++i) values.push_back(value_of(round, world.rank(), place, i));
      }
    }
    contents_ = make_tensor({kRounds, row()}, values, DType::kF32, kGpu);
    for (Lane& lane : lanes_) {
      lane.send = Tensor::zeros(DType::kF32, {row()}, kGpu);
      lane.recv = Tensor::zeros(DType::kF32, {row()}, kGpu);
    }
  }

  void run() {
    for (int round = 0; round < kRounds; ++round) {
      Round now = {.index = round};
      now.group = std::array<Communicator*, 3>{&world_, node_.get(), rail_.get()}[common_() % 3];
      now.kind = static_cast<Kind>(common_() % 6);
      Lane& lane = lanes_[own_() % 2];  // each rank has its own idea of which stream
      delay(lane);
      prepare(now, lane);
      if (own_() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(own_() % 1500));
      call(now, lane);
      queue_copy(log_.as<char>() + round * row() * 4, lane.recv.as<void>(), row() * 4, lane.stream);
      queue_fill(lane.send.as<void>(), kOverwritten, row() * 4, lane.stream);
      queue_fill(lane.recv.as<void>(), kOverwritten, row() * 4, lane.stream);
      delay(lane);
      rounds_.push_back(now);
    }
  }

  void check() {
    for (Lane& lane : lanes_) lane.stream.synchronize_blocking();
    const std::vector<double> log = values_of(log_);
    for (const Round& round : rounds_) {
      const std::vector<double> expected = expected_of(round);
      const auto begin = log.begin() + round.index * row();
      ASSERT_EQ(std::vector<double>(begin, begin + row()), expected)
          << "round " << round.index << ", kind " << static_cast<int>(round.kind) << ", a group of "
          << round.group->size();
    }
  }

 private:
  struct Lane {
    Stream stream{kGpu};
    Tensor send, recv;
  };
  struct Round {
    int index = 0;
    Communicator* group = nullptr;
    Kind kind = Kind::kAllToAll;
  };

  [[nodiscard]] std::int64_t row() const { return world_.size() * kCount; }
  [[nodiscard]] static bool in_place(Kind kind) { return kind == Kind::kReduce || kind == Kind::kBroadcast; }

  void delay(Lane& lane) {
    const auto fills = own_() % 4 == 0 ? own_() % 10 : 0;
    for (unsigned i = 0; i < fills; ++i) queue_fill(ballast_.as<void>(), 1, kBallastBytes, lane.stream);
  }

  void prepare(const Round& round, Lane& lane) {
    const char* const contents = contents_.as<char>() + round.index * row() * 4;
    queue_copy(lane.send.as<void>(), contents, row() * 4, lane.stream);
    if (in_place(round.kind)) {
      queue_copy(lane.recv.as<void>(), contents, row() * 4, lane.stream);
    } else {
      queue_fill(lane.recv.as<void>(), 0, row() * 4, lane.stream);
    }
  }

  void call(const Round& round, Lane& lane) {
    Communicator& group = *round.group;
    void* const send = lane.send.as<void>();
    void* const recv = lane.recv.as<void>();
    switch (round.kind) {
      case Kind::kAllToAll:
        return group.all_to_all({.send = send, .recv = recv, .bytes_per_peer = kPieceBytes}, lane.stream);
      case Kind::kRagged:
        return call_ragged(round, lane);
      case Kind::kGather:
        return group.all_gather(send, recv, kPieceBytes, Traffic::kWeights, lane.stream);
      case Kind::kScatter:
        return group.reduce_scatter(send, recv, kCount, DType::kF32, Traffic::kGradients, lane.stream);
      case Kind::kReduce:
        return group.all_reduce(recv, row(), DType::kF32, ReduceOp::kSum, Traffic::kGate, lane.stream);
      case Kind::kBroadcast:
        return group.broadcast(recv, row() * 4, round.index % group.size(), Traffic::kOther, lane.stream);
    }
  }

  static void call_ragged(const Round& round, Lane& lane) {
    std::vector<std::int64_t> send_bytes, recv_bytes, offsets;
    for (int peer = 0; peer < round.group->size(); ++peer) {
      send_bytes.push_back(4 * ragged_count(round.index, round.group->rank(), peer));
      recv_bytes.push_back(4 * ragged_count(round.index, peer, round.group->rank()));
      offsets.push_back(peer * kPieceBytes);
    }
    round.group->ragged_all_to_all({.send = lane.send.as<void>(),
                                    .send_bytes = send_bytes,
                                    .send_offset_bytes = offsets,
                                    .recv = lane.recv.as<void>(),
                                    .recv_bytes = recv_bytes,
                                    .recv_offset_bytes = offsets},
                                   lane.stream);
  }

  /// Element `i` of piece `place` of recv after `round`.
  [[nodiscard]] double expected_at(const Round& round, int place, std::int64_t i) const {
    const Communicator& group = *round.group;
    const auto sent = [&](int rank, int piece) {
      return value_of(round.index, group.world_ranks()[static_cast<std::size_t>(rank)], piece, i);
    };
    const auto sum = [&](int piece) {
      double total = 0.0;
      for (int rank = 0; rank < group.size(); ++rank) total += sent(rank, piece);
      return total;
    };
    const bool from_member = place < group.size();
    switch (round.kind) {
      case Kind::kAllToAll:
        return from_member ? sent(place, group.rank()) : 0.0;
      case Kind::kRagged:
        return from_member && i < ragged_count(round.index, place, group.rank()) ? sent(place, group.rank())
                                                                                 : 0.0;
      case Kind::kGather:
        return from_member ? sent(place, 0) : 0.0;
      case Kind::kScatter:
        return place == 0 ? sum(group.rank()) : 0.0;
      case Kind::kReduce:
        return sum(place);
      case Kind::kBroadcast:
        return sent(round.index % group.size(), place);
    }
    return 0.0;
  }

  [[nodiscard]] std::vector<double> expected_of(const Round& round) const {
    std::vector<double> expected;
    for (int place = 0; place < world_.size(); ++place) {
      for (std::int64_t i = 0; i < kCount; ++i) expected.push_back(expected_at(round, place, i));
    }
    return expected;
  }

  Communicator& world_;
  std::unique_ptr<Communicator> node_, rail_;
  std::mt19937 common_{2024};  ///< draws the same on all ranks
  std::mt19937 own_;
  Tensor contents_, log_, ballast_;
  std::array<Lane, 2> lanes_;  ///< after the memory: their streams end first
  std::vector<Round> rounds_;
};

using CudaStress = CudaRanks;
INSTANTIATE_TEST_SUITE_P(Ranks, CudaStress, ::testing::Values(2, 4, 8));

TEST_P(CudaStress, RandomCallsBetweenOtherWorkComeOutRight) {
  run_cuda_ranks({GetParam(), 2}, kPatient, [](Communicator& world) {
    Rank rank(world);
    meet(world);  // memory is made by now: making and freeing it waits for the GPU and would hide races
    rank.run();
    rank.check();
    meet(world);
  });
}

}  // namespace
}  // namespace flex::testing
