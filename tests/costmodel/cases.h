#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "costmodel/build_schedule.h"
#include "costmodel/plan_space.h"

/// A grid of workloads and clusters, and schedules as lines of text.
namespace flex::testing {

/// What a schedule is built for, but for the plan.
struct Case {
  Workload workload;
  Cluster cluster;
};

inline std::ostream& operator<<(std::ostream& out, const Case& one) {
  const Workload& w = one.workload;
  return out << "W " << w.world << " in nodes of " << one.cluster.ranks_per_node << ", E " << w.num_experts
             << ", C " << w.capacity << ", " << name(w.pass) << ", " << name(w.dtype);
}

/// Every setting that changes what is scheduled or moved, one or two at a time.
[[nodiscard]] inline std::vector<Workload> all_settings() {
  const Workload plain = {.num_tokens = 9, .model_dim = 5, .hidden_dim = 48};
  std::vector<Workload> settings(8, plain);
  settings[1].ffn = FfnKind::kGated;
  settings[1].dtype = DType::kF64;
  settings[2].train_fc2_bias = false;
  settings[2].regather_weights = true;
  settings[3].fc1_bias = false;
  settings[3].fc2_bias = false;
  settings[3].agree_on_tokens = false;
  settings[4].gate = GateKind::kCosine;
  settings[4].projection_dim = 7;
  settings[4].dtype = DType::kBF16;
  settings[5].is_postscore = false;
  settings[5].gate_noise = true;
  settings[5].dropless = true;
  settings[6].gate_loss = false;
  settings[6].regather_weights = true;
  settings[7].global_loss_scope = false;
  settings[7].dropless = true;
  return settings;
}

/// Ranks, nodes (whole and not), experts, capacities, passes and settings.
[[nodiscard]] inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const int world : {1, 2, 4, 6, 8}) {
    for (const std::int64_t experts : {1, 2, 3, 4, 6, 8, 16}) {
      if (world % experts != 0 && experts % world != 0) continue;
      for (const int ranks_per_node : {1, 2, 4}) {
        for (const std::int64_t capacity : {0, 1, 5, 20}) {
          for (Workload workload : all_settings()) {
            workload.world = world;
            workload.num_experts = experts;
            workload.capacity = capacity;
            workload.top_k = experts > 1 ? 2 : 1;
            for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
              workload.pass = pass;
              cases.push_back({workload,
                               {.nodes = (world + ranks_per_node - 1) / ranks_per_node,
                                .ranks_per_node = ranks_per_node}});
            }
          }
        }
      }
    }
  }
  return cases;
}

/// Calls check(one, schedule) for every plan of every case, until a test has failed.
template <class Check>
void for_all_schedules(Part part, Check&& check) {
  Schedule schedule;
  for (const Case& one : all_cases()) {
    if (part == Part::kRoute && one.workload.pass == Pass::kBackward) continue;
    for (const Plan& plan : PlanSpace(one.workload, one.cluster).plans()) {
      build_schedule_into(schedule, part, one.workload, plan, one.cluster);
      check(one, schedule);
      if (::testing::Test::HasFailure()) {
        FAIL() << one << ", " << to_string(plan);
      }
    }
  }
}

/// `3 compute expert_ffn#1of2 <- 0, 2`: index, stream, label, and what it waits for on other streams.
[[nodiscard]] inline std::vector<std::string> lines_of(const Schedule& schedule) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < schedule.operations.size(); ++i) {
    const Operation& operation = schedule.operations[i];
    std::string line = fmt::format("{} {} {}", i, name(operation.stream), label(operation));
    for (const std::int16_t wait : operation.waits_for()) {
      line += fmt::format("{}{}", wait == operation.waits[0] ? " <- " : ", ", wait);
    }
    lines.push_back(line);
  }
  return lines;
}

}  // namespace flex::testing
