#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "runtime/communicator.h"

/// The contract of runtime/communicator.h as one suite for every implementation. A type parameter `Worlds` of
/// the suite has
///   static void run(Topology, std::chrono::milliseconds deadline, std::function<void(Communicator&)> body)
/// which runs `body` once for each rank of a new world of up to 4 ranks; each process of a job calls it once.
namespace flex::testing {

using Milliseconds = std::chrono::milliseconds;

/// Long enough for a loaded machine under a sanitizer; only a test that fails waits so long.
inline constexpr Milliseconds kPatient{60'000};

template <class Worlds>
class CommunicatorContract : public ::testing::Test {};
TYPED_TEST_SUITE_P(CommunicatorContract);

/// Element `i` of what rank `from` has for rank `to`; small enough that sums are exact.
[[nodiscard]] inline double content(int from, int to, std::int64_t i) {
  return 10000.0 * (from + 1) + 100.0 * (to + 1) + static_cast<double>(i % 89);
}

inline constexpr double kPoison = -77.0;

/// `count` elements of `from` for each of `size` ranks.
[[nodiscard]] inline std::vector<double> pieces(int from, int size, std::int64_t count) {
  std::vector<double> all;
  for (int to = 0; to < size; ++to) {
    for (std::int64_t i = 0; i < count; ++i) all.push_back(content(from, to, i));
  }
  return all;
}

/// What rank `to` has after an equal exchange of pieces().
[[nodiscard]] inline std::vector<double> exchanged(int to, int size, std::int64_t count) {
  std::vector<double> all;
  for (int from = 0; from < size; ++from) {
    for (std::int64_t i = 0; i < count; ++i) all.push_back(content(from, to, i));
  }
  return all;
}

[[nodiscard]] inline std::int64_t bytes_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(double));
}

/// The message of the CommError that `call` ends with; `(completed)` if it does not fail.
template <class Call>
[[nodiscard]] std::string failure_of(Call&& call) {
  try {
    call();
  } catch (const CommError& error) {
    return error.what();
  }
  return "(completed)";
}

/// One small collective, waited for.
inline void meet(Communicator& communicator) {
  Stream stream(Device::cpu());
  double value = 1.0;
  communicator.all_reduce(&value, 1, DType::kF64, ReduceOp::kSum, Traffic::kGate, stream);
  stream.synchronize_blocking();
  EXPECT_EQ(value, communicator.size());
}

}  // namespace flex::testing
