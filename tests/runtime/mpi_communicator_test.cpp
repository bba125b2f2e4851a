#include "runtime/mpi_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <regex>

#include "runtime/mpi_exchange.h"
#include "tests/runtime/contract_suite.h"

/// Runs under mpirun with 4 ranks. Every process runs every test.
namespace flex::testing {
namespace {

const MpiSession* session = nullptr;  // main's; GoogleTest gives tests no other way to it

/// Keeps the processes of a job in step, however a test ends.
struct InStep {
  InStep() { MPI_Barrier(MPI_COMM_WORLD); }
  ~InStep() { MPI_Barrier(MPI_COMM_WORLD); }
  InStep(const InStep&) = delete;
  InStep& operator=(const InStep&) = delete;
};

/// A world of `size` ranks; a smaller one than the job's is made from a communicator of the user, as often as
/// it fits.
struct MpiWorlds {
  static void run(Topology topology, Milliseconds deadline, const std::function<void(Communicator&)>& body) {
    const InStep in_step;
    MPI_Comm part = MPI_COMM_NULL;
    if (topology.world < session->size()) {
      const int group = session->rank() / topology.world;
      const bool fits = (group + 1) * topology.world <= session->size();
      MPI_Comm_split(MPI_COMM_WORLD, fits ? group : MPI_UNDEFINED, 0, &part);
      if (!fits) return;
    }
    {
      const auto world = part == MPI_COMM_NULL ? make_mpi_world(*session, topology.ranks_per_node, deadline)
                                               : wrap_mpi_comm(part, topology.ranks_per_node, deadline);
      try {
        body(*world);
      } catch (const std::exception& error) {
        world->abort(error.what());
        throw;
      }
    }
    if (part != MPI_COMM_NULL) MPI_Comm_free(&part);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Mpi, CommunicatorContract, MpiWorlds);

TEST(MpiCommunicator, DescribesItself) {
  MpiWorlds::run({4, 2}, kPatient, [](Communicator& world) {
    EXPECT_EQ(world.description(), "MPI, 4 ranks");
    EXPECT_TRUE(std::regex_search(world.transport(), std::regex(R"(MPI[^,\n]* v?\d+\.\d+)")))
        << world.transport();
    EXPECT_EQ(world.deadline(), kPatient);
    EXPECT_EQ(world.rank(), session->rank());
  });
}

TEST(MpiCommunicator, FindsTheRanksOfAMachine) {
  MpiWorlds::run({4, 0}, kPatient, [](Communicator& world) {
    EXPECT_EQ(world.counters().topology().ranks_per_node, 4) << "all ranks of this test run on one machine";
  });
}

TEST(MpiCommunicator, RefusesAWorldThatCannotBe) {
  const InStep in_step;
  EXPECT_EQ(input_error_of([] { static_cast<void>(make_mpi_world(*session, -1, kPatient)); }),
            "-1 ranks per node; it is at least 1, or 0 for the ranks of a machine");
  EXPECT_EQ(input_error_of([] { static_cast<void>(make_mpi_world(*session, 1, Milliseconds(0))); }),
            "a deadline of 0 ms; it is at least 1 ms");
}

TEST(MpiCommunicator, WorldsMayFollowEachOther) {
  for (int i = 0; i < 5; ++i) MpiWorlds::run({4, 2}, kPatient, [](Communicator& world) { meet(world); });
}

TEST(MpiExchange, LongPiecesGoInSeveralMessages) {
  const InStep in_step;
  constexpr std::int64_t kMostBytes = 1000;
  const int rank = session->rank();
  MPI_Comm control = MPI_COMM_NULL;
  MPI_Comm data = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &control);
  MPI_Comm_dup(MPI_COMM_WORLD, &data);
  {
    MpiWorld world(control, {4, 4}, kPatient, nullptr);
    const std::vector<int> ranks = {0, 1, 2, 3};
    MpiExchange exchange(world, data, ranks, rank, kMostBytes);
    for (const std::int64_t count :
         {124, 125, 126, 1000}) {  // of doubles: less than, exactly, and more than one message
      const auto send = pieces(rank, 4, count);
      std::vector<double> recv(send.size(), kPoison);
      const CollectiveCall call =
          all_to_all_call({.send = send.data(), .recv = recv.data(), .bytes_per_peer = bytes_of(count)}, 4);
      exchange.begin(call, static_cast<int>(count));
      for (int peer = 0; peer < 4; ++peer) {
        if (peer == rank) continue;
        exchange.receive(peer, call.place_of(peer), call.bytes);
        exchange.send(peer, call.piece_for(peer), call.bytes);
      }
      exchange.complete_blocking();
      std::copy_n(send.begin() + rank * count, count, recv.begin() + rank * count);
      EXPECT_EQ(recv, exchanged(rank, 4, count)) << count;
    }
  }
  MPI_Comm_free(&data);
}

/// The other ranks print nothing but what went wrong.
class FailurePrinter : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "rank {}: {}:{}: {}\n", session->rank(), result.file_name(), result.line_number(),
               result.message());
  }
};

}  // namespace
}  // namespace flex::testing

int main(int argc, char** argv) {
  const flex::MpiSession session;
  flex::testing::session = &session;
  ::testing::InitGoogleTest(&argc, argv);
  if (session.rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new flex::testing::FailurePrinter);
  }
  return RUN_ALL_TESTS();
}
