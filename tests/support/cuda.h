#pragma once

#include "tests/support/kernel_test.h"

/// Ends a test that needs a GPU as skipped where there is none; with FLEX_REQUIRE_CUDA=1 it goes on, and
/// fails.
#define FLEX_SKIP_WITHOUT_CUDA() \
  if (::flex::testing::skip_device(::flex::Device::cuda(0))) GTEST_SKIP() << "no GPU"
