#include <gtest/gtest.h>

#include "models/verify_model.h"

namespace flex::testing {
namespace {

struct GoldenCase {
  const char* file;
  DType dtype;
};
void PrintTo(const GoldenCase& golden, std::ostream* out) {
  *out << golden.file << " " << name(golden.dtype);
}

class GoldenModel : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenModel, IsReproduced) {
  const SafetensorsFile file(std::string(FLEX_SOURCE_DIR "/tests/golden/") + GetParam().file);
  const ReferenceModel reference = read_reference_model(file);
  const std::vector<VerifiedCase> cases = verify_reference_model(reference, GetParam().dtype, Device::cpu());
  const bool is_trained = file.find("train_losses") != nullptr;
  EXPECT_EQ(cases.size(), is_trained ? 2U : 1U);
  std::size_t compared = 0;
  for (const VerifiedCase& one : cases) {
    EXPECT_TRUE(one.uncompared.empty()) << one.uncompared.front();
    compared += one.outputs.size();
    for (const VerifiedOutput& output : one.outputs) {
      EXPECT_TRUE(output.passed()) << one.name << ": " << output.name << " is off by " << output.error
                                   << ", allowed " << output.tolerance;
    }
  }
  EXPECT_EQ(compared, reference.expected.size());
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenModel,
                         ::testing::Values(GoldenCase{"swinv2_micro.safetensors", DType::kF32},
                                           GoldenCase{"swinv2_micro.safetensors", DType::kF64},
                                           GoldenCase{"swinv2_moe_micro.safetensors", DType::kF32},
                                           GoldenCase{"swinv2_moe_micro.safetensors", DType::kF64},
                                           GoldenCase{"swin_moe_released_micro.safetensors", DType::kF32},
                                           GoldenCase{"swin_moe_released_micro.safetensors", DType::kF64}));

}  // namespace
}  // namespace flex::testing
