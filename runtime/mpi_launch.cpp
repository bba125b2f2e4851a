#include "runtime/mpi_launch.h"

#include <fmt/format.h>

#include <cstdio>
#include <thread>

#include "base/error.h"

namespace flex {
namespace {

constexpr std::chrono::milliseconds kEchoGrace{1000};
constexpr int kFailed = 1;
constexpr int kBadInput = 2;

void end_job(const MpiSession& session, const char* message, int status) {
  fmt::print(stderr, "flexmoe: rank {}: {}\n", session.rank(), message);
  std::fflush(stderr);
  MPI_Abort(MPI_COMM_WORLD, status);
}

}  // namespace

void run_mpi_rank(const MpiSession& session, int ranks_per_node, std::chrono::milliseconds deadline,
                  const std::function<void(Communicator&)>& body) {
  try {
    const std::unique_ptr<Communicator> communicator = make_mpi_world(session, ranks_per_node, deadline);
    body(*communicator);
  } catch (const CommError& error) {
    std::this_thread::sleep_for(kEchoGrace);
    end_job(session, error.what(), kFailed);
  } catch (const InputError& error) {
    end_job(session, error.what(), kBadInput);
  } catch (const std::exception& error) {
    end_job(session, error.what(), kFailed);
  } catch (...) {
    end_job(session, "an exception that is not a std::exception", kFailed);
  }
}

}  // namespace flex
