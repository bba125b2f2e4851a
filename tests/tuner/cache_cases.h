#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <vector>

#include "tuner/cache.h"

/// Keys, trials and files for the tests of the cache.
namespace flex::testing {

/// An environment and a layer that are nothing's defaults, at one of 100,000 loads.
[[nodiscard]] inline TuningKey key_at(std::int32_t capacity_bucket, std::int32_t imbalance_bucket = 0) {
  return {.environment = {.device = "Device 9",
                          .intra_node = "wire",
                          .inter_node = "longer wire",
                          .driver = "580.1",
                          .cuda = "13.0",
                          .nccl = "2.28",
                          .build = "0.1.0",
                          .world = 16,
                          .ranks_per_node = 8,
                          .ranks_per_device = 1},
          .layer = {.num_experts = 4,
                    .top_k = 2,
                    .model_dim = 512,
                    .hidden_dim = 2048,
                    .dtype = DType::kBF16,
                    .gate = GateKind::kCosine,
                    .projection_dim = 256,
                    .dropless = true},
          .one = {.capacity_bucket = capacity_bucket, .imbalance_bucket = imbalance_bucket}};
}

[[nodiscard]] inline Trial trial_of(const char* plan, std::vector<std::int64_t> samples_ns,
                                    std::int64_t measured_at_ns = 1'700'000'000'000'000'000) {
  Trial trial{.plan = parse_plan(plan),
              .origin = "a test",
              .num_tokens = 4096,
              .capacity = 2048,
              .num_warmup = 3,
              .num_repeats = 1,
              .device_clock_MHz = 1980,
              .samples_ns = std::move(samples_ns),
              .measured_at_ns = measured_at_ns};
  summarize(trial);
  return trial;
}

/// Default 300 ns, r2 d4 2dh 200 ns.
[[nodiscard]] inline std::vector<Trial> two_trials() {
  return {trial_of("r1 d1 linear", {310, 300, 290}), trial_of("r2 d4 2dh", {200, 199, 205})};
}

inline const SearchSummary kCompleteSearch = {.strategy = "exhaustive", .is_complete = true};

/// A decision of its own for each of `count` cases, in one file.
inline void fill(TuningCache& cache, std::int32_t count) {
  for (std::int32_t i = 0; i < count; ++i) {
    cache.record(key_at(i / 4, i % 4), two_trials(), kCompleteSearch);
  }
}

}  // namespace flex::testing
