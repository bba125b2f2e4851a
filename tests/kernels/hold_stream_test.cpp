#include "kernels/hold_stream.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/support/kernel_test.h"

namespace flex::testing {
namespace {

using namespace std::chrono_literals;

class HoldStream : public KernelTest {};

TEST_P(HoldStream, WhatComesBehindItWaits) {
  using std::chrono::steady_clock;
  Event done(device());
  hold_stream(stream(), 0);  // loads the kernel
  wait();
  const auto begin = steady_clock::now();
  hold_stream(stream(), 50'000);
  stream().record(done);
  const auto queued = steady_clock::now();
  done.wait_blocking();
  EXPECT_GE(steady_clock::now() - begin, 45ms);  // by two clocks
  EXPECT_LT(queued - begin, 45ms) << "the host has to get ahead";
}

TEST_P(HoldStream, RefusesWhatCannotBe) {
  EXPECT_EQ(message_of<InputError>([&] { hold_stream(stream(), -1); }),
            "a stream held for -1 us; it is at least 0 and at most 1e+06");
}

INSTANTIATE_TEST_SUITE_P(Devices, HoldStream, ::testing::ValuesIn(gate_backends()), backend_name);

}  // namespace
}  // namespace flex::testing
