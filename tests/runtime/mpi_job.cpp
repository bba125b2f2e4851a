// A small MPI job that ends in the way that its argument names; mpi_job_test.cmake looks at how it ended.
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>

#include "base/error.h"
#include "runtime/mpi_launch.h"

namespace flex {
namespace {

constexpr std::chrono::milliseconds kPatient{60'000};
constexpr std::chrono::milliseconds kShort{500};
constexpr std::chrono::seconds kForever{3600};

void meet(Communicator& world) {
  Stream stream(Device::cpu());
  double value = 1.0;
  world.all_reduce(&value, 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
  stream.synchronize_blocking();
}

void throw_on_rank_1(Communicator& world) {
  if (world.rank() == 1) throw Error("no such expert");
  meet(world);
}

void refuse_on_rank_3(Communicator& world) {
  if (world.rank() == 3) throw InputError("model.json: dim is 0");
  meet(world);
}

void fail_a_stream_on_rank_2(Communicator& world) {
  Stream stream(Device::cpu());
  if (world.rank() == 2) stream.enqueue([] { throw Error("a kernel failed"); });
  double value = 1.0;
  world.all_reduce(&value, 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
  stream.synchronize_blocking();
}

void sleep_on_rank_2(Communicator& world) {
  if (world.rank() == 2) std::this_thread::sleep_for(kForever);
  meet(world);
}

/// Every rank is deaf to the abort that rank 0 reports: only MPI_Abort can end this.
void hang_after_an_abort(Communicator& world) {
  if (world.rank() == 0) world.abort("the watchdog found no progress");
  std::this_thread::sleep_for(kForever);
}

/// No run_mpi_rank: a program of its own making that lets an exception pass.
int leave_by_an_exception() {
  try {
    const MpiSession session;
    const auto world = make_mpi_world(session, 2, kPatient);
    throw_on_rank_1(*world);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "main caught: %s\n", error.what());
    return 1;
  }
  return 0;
}

/// Rank 0 gives up on rank 1, and ends in order; rank 1 never comes to MPI_Finalize.
int end_beside_a_stuck_rank() {
  const MpiSession session;
  const auto world = make_mpi_world(session, 2, kShort);
  if (session.rank() == 1) std::this_thread::sleep_for(kForever);
  try {
    meet(*world);
  } catch (const CommError& error) {
    std::fprintf(stderr, "main caught: %s\n", error.what());
  }
  return 0;
}

int run(const std::string& way) {
  if (way == "leave_by_an_exception") return leave_by_an_exception();
  if (way == "end_beside_a_stuck_rank") return end_beside_a_stuck_rank();
  const MpiSession session;
  if (way == "end_well") run_mpi_rank(session, 0, kPatient, meet);
  if (way == "throw_on_rank_1") run_mpi_rank(session, 2, kPatient, throw_on_rank_1);
  if (way == "refuse_on_rank_3") run_mpi_rank(session, 2, kPatient, refuse_on_rank_3);
  if (way == "fail_a_stream_on_rank_2") run_mpi_rank(session, 2, kPatient, fail_a_stream_on_rank_2);
  if (way == "sleep_on_rank_2") run_mpi_rank(session, 2, kShort, sleep_on_rank_2);
  if (way == "hang_after_an_abort") run_mpi_rank(session, 2, kPatient, hang_after_an_abort);
  return 0;
}

}  // namespace
}  // namespace flex

int main(int argc, char** argv) { return argc == 2 ? flex::run(argv[1]) : 2; }
