#include "costmodel/parameter_scaling.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/base/expect_error.h"

namespace flex {
namespace {

CostParameters with_kind() {
  CostParameters parameters;
  parameters.linear.compute = 1.25;
  parameters.kinds[static_cast<std::size_t>(OperationKind::kEncode)] = {.fixed_us = 4, .time_factor = 2};
  return parameters;
}

TEST(ParameterScaling, OneLeavesAllAsItIs) {
  const CostParameters parameters = with_kind();
  EXPECT_EQ(scaled(parameters, std::vector<double>(num_scalable(parameters), 1)), parameters);
  EXPECT_EQ(num_scalable(parameters), num_scalable(CostParameters{}) + 2);
}

TEST(ParameterScaling, ScalesEachNumberAndKeepsItsRange) {
  const CostParameters parameters = with_kind();
  const CostParameters half = scaled(parameters, std::vector<double>(num_scalable(parameters), 0.5));
  EXPECT_DOUBLE_EQ(half.compute.matrix_efficiency, parameters.compute.matrix_efficiency / 2);
  EXPECT_DOUBLE_EQ(half.inter_node.collective_us, parameters.inter_node.collective_us / 2);
  EXPECT_DOUBLE_EQ(half.linear.compute, 1) << "overlap never speeds up";
  EXPECT_TRUE(std::isinf(half.inter_node.contention_peers));
  EXPECT_EQ(half.of(OperationKind::kEncode), (KindParameters{.fixed_us = 2, .time_factor = 1}));
  EXPECT_EQ(half.relative_error, parameters.relative_error);
}

TEST(ParameterScaling, EachFactorChangesOneNumber) {
  const CostParameters parameters = with_kind();
  std::vector<double> factors(num_scalable(parameters), 1);
  std::vector<CostParameters> seen = {parameters};
  for (double& factor : factors) {
    factor = 1.1;
    const CostParameters one = scaled(parameters, factors);
    factor = 1;
    for (const CostParameters& other : seen) {
      // Nothing to scale: infinite, or zero.
      if (one == parameters) break;
      EXPECT_NE(one, other);
    }
    seen.push_back(one);
  }
}

TEST(ParameterScaling, NeedsAFactorForEach) {
  const std::vector<double> factors = {1, 2};
  EXPECT_EQ(message_of<InputError>([&] { (void)scaled(CostParameters{}, factors); }),
            fmt::format("2 factors for {} parameters", num_scalable(CostParameters{})));
}

}  // namespace
}  // namespace flex
