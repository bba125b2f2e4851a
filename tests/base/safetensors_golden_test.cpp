#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/json_object.h"
#include "base/safetensors.h"

namespace flex {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(FLEX_SOURCE_DIR) / "tests/golden";

// Files that another program wrote.
TEST(SafetensorsGolden, ReadsTheLayerCases) {
  const SafetensorsFile file(kGolden / "moe_layer.safetensors");
  EXPECT_EQ(file.metadata().size(), 16U);
  EXPECT_EQ(file.tensors().size(), 332U);
  const SafetensorsTensor& gates = file.at("cosine_top1/gates");
  EXPECT_EQ(gates.shape, (std::vector<std::int64_t>{96, 1}));
  for (const float gate : gates.values<float>()) EXPECT_TRUE(gate > 0.0F && gate <= 1.0F) << gate;
}

TEST(SafetensorsGolden, ReadsTheTrainingCurves) {
  for (const char* name : {"moe_train_top1_aux.safetensors", "moe_train_top2.safetensors"}) {
    const SafetensorsFile file(kGolden / name);
    EXPECT_EQ(file.at("losses").num_elements(), 100);
    JsonObject config(parse_json(file.metadata().at("config"), name), name);
    EXPECT_EQ(config.required<int>("steps"), 100);
    EXPECT_EQ(file.at("param.experts.batched_fc1_w").num_elements(), config.required<int>("num_experts") *
                                                                         config.required<int>("hidden_dim") *
                                                                         config.required<int>("model_dim"));
  }
}

}  // namespace
}  // namespace flex
