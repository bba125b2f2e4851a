#pragma once

#include <gtest/gtest.h>

#include <chrono>

#include "kernels/stream.h"
#include "profiler/cupti_session.h"
#include "tests/profiler/fake_cupti.h"

namespace flex::testing {

/// A forged CUPTI whose sentinel works, and settings under which nothing that a test waits for is late.
class CuptiFixture : public ::testing::Test {
 protected:
  static constexpr std::chrono::seconds kPatience{60};

  FakeCupti fake_;
  CuptiSettings settings_{.sentinel = [this] { fake_.launch({{.name = "sentinel"}}); },
                          .sentinel_timeout = kPatience,
                          .collect_timeout = kPatience,
                          .flush_timeout = kPatience,
                          .quiet_timeout = kPatience};
  Stream stream_{Device::cpu()};
};

}  // namespace flex::testing
