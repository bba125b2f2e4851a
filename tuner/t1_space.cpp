#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>

#include "costmodel/plan_space.h"
#include "tuner/interchange.h"

namespace flex {
namespace {

using Json = nlohmann::ordered_json;

// A list of Python, the values in ascending order: `[0, 1, 2]`.
Json integers(const char* key, const std::set<std::int32_t>& values) {
  return {{"Name", key}, {"Type", "int"}, {"Values", fmt::format("[{}]", fmt::join(values, ", "))}};
}

Json strings(const char* key, const std::set<std::string_view>& values) {
  return {{"Name", key}, {"Type", "string"}, {"Values", fmt::format("['{}']", fmt::join(values, "', '"))}};
}

Json condition(std::vector<std::string> parameters, const std::string& expression) {
  return {{"Parameters", parameters}, {"Expression", expression}};
}

}  // namespace

Json to_t1(const Workload& workload, const Cluster& cluster, std::int32_t given_degree) {
  std::set<std::int32_t> parallel_degrees;
  std::set<std::int32_t> pipeline_degrees;
  std::set<std::string_view> algorithms;
  std::set<std::string_view> kernels;
  for (const Plan& plan : PlanSpace(workload, cluster).plans()) {
    if (given_degree != kFreeDegree && plan.parallel_degree != given_degree) continue;
    parallel_degrees.insert(plan.parallel_degree);
    pipeline_degrees.insert(plan.pipeline_degree);
    algorithms.insert(name(plan.all_to_all));
    kernels.insert(name(plan.expert_kernel));
  }
  const Json conditions = {
      condition({"parallel_degree", "pipeline_degree", "all_to_all"},
                "parallel_degree != 0 or (pipeline_degree == 1 and all_to_all == 'linear')"),
      condition({"parallel_degree", "pipeline_degree"},
                fmt::format("pipeline_degree == 1 or pipeline_degree * {} <= parallel_degree * {}",
                            workload.shards(), workload.padded_capacity()))};
  return {{"General", {{"FormatVersion", 1}, {"TimeUnit", "Milliseconds"}}},
          {"ConfigurationSpace",
           {{"TuningParameters",
             {integers("parallel_degree", parallel_degrees), integers("pipeline_degree", pipeline_degrees),
              strings("all_to_all", algorithms), strings("expert_kernel", kernels)}},
            {"Conditions", conditions}}},
          {"KernelSpecification",
           {{"Language", "CUDA"},
            {"KernelName", fmt::format("moe_layer_{}", name(workload.pass))},
            {"KernelFile", "flexmoe"},
            {"GlobalSize", {{"X", fmt::format("{}", workload.world)}}},
            {"LocalSize", {{"X", fmt::format("{}", cluster.ranks_per_node)}}}}}};
}

}  // namespace flex
