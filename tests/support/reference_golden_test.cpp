#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/require.h"
#include "base/safetensors.h"
#include "tests/support/reference_layer.h"

namespace flex::testing {
namespace {

// The largest error over the largest magnitude of a tensor. The golden values are fp32: sums of at most a few
// hundred products, each rounded to 6e-8 of its size; what is seen is 9e-7.
constexpr double kTolerance = 2e-6;
constexpr double kAuxWeight = 0.01;

constexpr const char* kPath = FLEX_SOURCE_DIR "/tests/golden/moe_layer.safetensors";

ReferenceActivation parse_activation(const std::string& text) {
  if (text == "gelu") return ReferenceActivation::kGelu;
  if (text == "relu") return ReferenceActivation::kRelu;
  if (text == "silu") return ReferenceActivation::kSilu;
  fail("{}: unknown activation {}", kPath, text);
}

/// Members of ReferenceParameters and the file's names for them.
const std::vector<std::pair<std::string, std::string>> kParameterNames = {
    {"gate_weight", "gate.wg.weight"},
    {"projector_weight", "gate.cosine_projector.weight"},
    {"projector_bias", "gate.cosine_projector.bias"},
    {"sim_matrix", "gate.sim_matrix"},
    {"temperature", "gate.temperature"},
    {"fc1_w", "experts.batched_fc1_w"},
    {"fc1_bias", "experts.batched_fc1_bias"},
    {"fc2_w", "experts.batched_fc2_w"},
    {"fc2_bias", "experts.batched_fc2_bias"}};

const std::vector<std::string> kCases = {
    "top1_overflow", "top2_dropless", "top2_capped",     "top2_cf125_e8",  "top2_prescore", "cosine_top1",
    "top2_bpr",      "relu_e2",       "cosine_top2_bpr", "top3_e8",        "silu_topE",     "top1_bpr",
    "top1_cf1",      "top2_nonorm",   "top2_cf1",        "load_importance"};

class ReferenceGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const nlohmann::json json = parse_json(file_.metadata().at(GetParam()), kPath);
    const SafetensorsTensor* sim_matrix = file_.find(name("param.gate.sim_matrix"));
    config_ = {.model_dim = json.at("model_dim"),
               .hidden_dim = json.at("hidden_dim"),
               .num_experts = json.at("num_experts"),
               .activation = parse_activation(json.at("activation")),
               .gate = json.at("gate") == "cosine" ? ReferenceGate::kCosine : ReferenceGate::kLinear,
               .proj_dim = sim_matrix != nullptr ? sim_matrix->shape[0] : 0,
               .normalize_gate = json.at("normalize_gate"),
               .batch_prioritized = json.at("batch_prioritized_routing"),
               .is_postscore = json.at("is_postscore"),
               // What the public code calls load_importance is the definition of the released model.
               .loss = json.at("aux_loss") == "gshard" ? ReferenceLoss::kGshard
                                                       : ReferenceLoss::kLoadImportanceReleased,
               .gate_noise = json.at("gate_noise")};
    call_ = {
        .top_k = json.at("top_k"), .capacity_factor = json.at("capacity_factor"), .aux_weight = kAuxWeight};
    capacity_ = json.at("capacity");
    const auto members = list_parameters(parameters_);
    for (const auto& [member, file_name] : kParameterNames) {
      if (file_.find(name("param." + file_name)) == nullptr) continue;
      for (const auto& [candidate, values] : members) {
        if (candidate == member) *values = numbers("param." + file_name);
      }
    }
    tokens_ = {.x = numbers("x"), .dy = numbers("dy")};
  }

  [[nodiscard]] std::string name(const std::string& tensor_name) const {
    return GetParam() + "/" + tensor_name;
  }

  [[nodiscard]] const SafetensorsTensor& tensor(const std::string& tensor_name) const {
    return file_.at(name(tensor_name));
  }

  [[nodiscard]] std::vector<double> numbers(const std::string& tensor_name) const {
    const std::vector<float> values = tensor(tensor_name).values<float>();
    return {values.begin(), values.end()};
  }

  void expect_close(const std::vector<double>& actual, const std::string& tensor_name) const {
    const std::vector<double> expected = numbers(tensor_name);
    ASSERT_EQ(actual.size(), expected.size()) << tensor_name;
    double largest = 0.0;
    double error = 0.0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      error = std::max(error, std::abs(actual[i] - expected[i]));
    }
    EXPECT_LE(error, kTolerance * largest) << tensor_name;
  }

  SafetensorsFile file_{kPath};
  ReferenceConfig config_;
  ReferenceCall call_;
  ReferenceParameters parameters_;
  ReferenceTokens tokens_;
  std::int64_t capacity_ = 0;
};

TEST_P(ReferenceGolden, ForwardAndBackward) {
  ReferenceResult result = reference_layer(config_, parameters_, call_, {tokens_});
  const ReferenceRank& rank = result.ranks[0];
  EXPECT_EQ(result.capacity, capacity_);
  EXPECT_EQ(rank.indices, tensor("indices").values<std::int32_t>());
  EXPECT_EQ(rank.locations, tensor("locations").values<std::int32_t>());
  expect_close(rank.scores, "scores");
  expect_close(rank.gates, "gates");
  expect_close(rank.y, "y");
  expect_close(result.l_aux, "l_aux");
  expect_close(rank.dx, "dx");
  std::int64_t num_compared = 0;
  for (const auto& [member, gradient] : list_parameters(result.gradients)) {
    if (gradient->empty()) continue;
    const auto named = std::find_if(kParameterNames.begin(), kParameterNames.end(),
                                    [&](const auto& names) { return names.first == member; });
    ASSERT_NE(named, kParameterNames.end()) << member;
    expect_close(*gradient, "grad." + named->second);
    ++num_compared;
  }
  EXPECT_EQ(num_compared, config_.gate == ReferenceGate::kCosine ? 8 : 5);
}

TEST(ReferenceGoldenFile, EveryCaseIsTested) {
  const SafetensorsFile file(kPath);
  EXPECT_EQ(file.metadata().size(), kCases.size());
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceGolden, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace flex::testing
