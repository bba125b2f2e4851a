#include "models/model_summary.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>

#include "models/parameter_list.h"
#include "models/training_config.h"
#include "tests/models/configs.h"

namespace flex::testing {
namespace {

// A row as published. @source Hwang et al., "Tutel", tables of SwinV2-MoE-S and -B: 192 x 192, window 12,
// 21,841 classes.
struct Row {
  const char* size;
  std::int64_t num_experts;  // 0: dense
  std::int64_t top_k;
  double capacity_factor;
  const char* parameters_M;
  const char* active_M;
  const char* gmac;
};
void PrintTo(const Row& row, std::ostream* out) {
  *out << fmt::format("{} E{} k{} f{}", row.size, row.num_experts, row.top_k, row.capacity_factor);
}

ModelSummary summary_of(const Row& row) {
  const std::string moe =
      row.num_experts == 0
          ? ""
          : fmt::format(
                R"(, "moe": {{"num_experts": {}, "gate": "linear", "top_k": {}, "capacity_factor": {}}})",
                row.num_experts, row.top_k, row.capacity_factor);
  const ModelConfig config = model_of(fmt::format(
      R"({{"block": "swin_moe", "size": "{}", "image_size": 192, "window_size": 12, "num_classes": 21841{}}})",
      row.size, moe));
  return summarize(config, config.moe.training);
}

std::string millions(std::int64_t count) { return fmt::format("{:.1f}", static_cast<double>(count) * 1e-6); }

class PublishedModel : public ::testing::TestWithParam<Row> {};

TEST_P(PublishedModel, ComesOutToTheLastDigit) {
  const Row& row = GetParam();
  const ModelSummary summary = summary_of(row);
  EXPECT_EQ(millions(summary.parameters()), row.parameters_M);
  EXPECT_EQ(millions(summary.active_parameters()), row.active_M);
  EXPECT_EQ(fmt::format("{:.2f}", summary.multiply_accumulates() * 1e-9), row.gmac);
}

INSTANTIATE_TEST_SUITE_P(Rows, PublishedModel,
                         ::testing::Values(Row{"small", 0, 1, 1, "65.8", "65.8", "6.76"},
                                           Row{"small", 8, 1, 1, "173.3", "65.8", "6.76"},
                                           Row{"small", 16, 1, 1, "296.1", "65.8", "6.76"},
                                           Row{"small", 32, 1, 1, "541.8", "65.8", "6.76"},
                                           Row{"base", 0, 1, 1, "109.3", "109.3", "11.78"},
                                           Row{"base", 8, 1, 1, "300.3", "109.3", "11.78"},
                                           Row{"base", 16, 1, 1, "518.7", "109.3", "11.78"},
                                           Row{"base", 32, 2, 1, "955.3", "136.6", "14.80"},
                                           Row{"base", 32, 1, 1.25, "955.3", "109.3", "12.54"}));

// Each further expert costs its two matrices, its hidden bias and its row of the gate, in ten layers: nine of
// 384 and one of 768 channels.
TEST(ModelSummary, GrowsByOneExpertAtATime) {
  const auto parameters = [](std::int64_t experts) {
    return summary_of({"small", experts, 1, 1, "", "", ""}).parameters();
  };
  const auto expert = [](std::int64_t dim) { return 2 * dim * 4 * dim + 4 * dim + dim; };
  for (const std::int64_t experts : {1, 7, 100}) {
    EXPECT_EQ(parameters(experts + 1) - parameters(experts), 9 * expert(384) + expert(768));
  }
}

// Worked by hand: one block of one stage is 16 positions of 8 channels in one window: q, k, v and the
// projection 16 * 4 * 64, products 2 * 16 * 16 * 8, MLP 16 * 2 * 8 * 32, two norms 2 * 16 * 8.
TEST(ModelSummary, CountsOneBlock) {
  const ModelConfig config = model_of(R"({"block": "swinv2", "embed_dim": 8, "depths": [1, 1, 1, 1],
      "num_heads": [1, 1, 1, 1], "image_size": 16, "window_size": 4, "num_classes": 3})");
  const ModelSummary summary = summarize(config, {});
  EXPECT_EQ(summary.layers[0].name, "patch_embed");
  EXPECT_EQ(summary.layers[0].multiply_accumulates, 16 * 8 * 48 + 16 * 8);
  EXPECT_EQ(summary.layers[1].name, "layers.0.blocks.0");
  EXPECT_EQ(summary.layers[1].multiply_accumulates,
            16 * 4 * 64 + 2 * 16 * 16 * 8 + 16 * 2 * 8 * 32 + 2 * 16 * 8);
  EXPECT_EQ(summary.layers[2].name, "layers.1.downsample");
  EXPECT_EQ(summary.layers[2].multiply_accumulates, 4 * 32 * 16 + 4 * 16);
  EXPECT_EQ(summary.layers.back().name, "head");
  EXPECT_EQ(summary.layers.back().multiply_accumulates, 64 + 64 * 3);
}

TEST(ModelSummary, HasEveryTrainedParameterOnce) {
  for (const char* block : {"swinv2", "swin_moe"}) {
    const ModelConfig config =
        model_of(fmt::format(R"({{"block": "{}", "size": "tiny", "moe": {{"num_experts": 3}}}})", block));
    std::int64_t expected = 0;
    for (const ParameterSpec& spec : parameter_list(config))
      expected += spec.trained ? spec.num_elements() : 0;
    EXPECT_EQ(summarize(config, config.moe.training).parameters(), expected) << block;
  }
}

TEST(ModelFiles, AreValid) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FLEX_SOURCE_DIR "/models/configs")) {
    const ModelFile file = read_model_file(entry.path());
    EXPECT_EQ(file.model.name, entry.path().stem().string());
    ++count;
  }
  EXPECT_GE(count, 10);
}

// What the files of base size are, with their own k and f.
TEST(ModelFiles, HaveThePublishedSizes) {
  struct Expected {
    const char* name;
    const char* parameters_M;
    const char* active_M;
    const char* gmac;
  };
  // Published for f = 1.25 is E = 32 alone; the experts' products do not depend on E.
  for (const Expected& expected : {Expected{"swin_base", "109.3", "109.3", "11.78"},
                                   Expected{"swin_moe_base_e8", "300.3", "109.3", "12.54"},
                                   Expected{"swin_moe_base_e32", "955.3", "109.3", "12.54"}}) {
    const ModelFile file =
        read_model_file(std::string(FLEX_SOURCE_DIR "/models/configs/") + expected.name + ".json");
    const ModelSummary summary = summarize(file.model, file.model.moe.training);
    EXPECT_EQ(millions(summary.parameters()), expected.parameters_M) << expected.name;
    EXPECT_EQ(millions(summary.active_parameters()), expected.active_M) << expected.name;
    EXPECT_EQ(fmt::format("{:.2f}", summary.multiply_accumulates() * 1e-9), expected.gmac) << expected.name;
  }
}

// The same recipe with other numbers of experts, or none.
TEST(ModelFiles, OfBaseSizeDifferInTheirExpertsAlone) {
  const auto read = [](const std::string& name) {
    ModelFile file = read_model_file(FLEX_SOURCE_DIR "/models/configs/" + name + ".json");
    file.model.name.clear();
    file.model.moe.num_experts = 0;
    return file;
  };
  for (const std::string kind : {"swin", "swinv2"}) {
    const ModelFile e32 = read(kind + "_moe_base_e32");
    const ModelFile e8 = read(kind + "_moe_base_e8");
    ModelFile dense = read(kind + "_base");
    EXPECT_EQ(e8.model, e32.model) << kind;
    EXPECT_EQ(e8.training, e32.training) << kind;
    dense.model.moe = e32.model.moe;
    EXPECT_EQ(dense.model, e32.model) << kind;
    EXPECT_EQ(dense.training, e32.training) << kind;
  }
}

}  // namespace
}  // namespace flex::testing
