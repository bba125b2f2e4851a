#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/safetensors.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/training_checkpoint.h"
#include "tests/base/temporary_directory.h"
#include "tests/cli/program.h"
#include "tests/models/training_runs.h"

/// `flexmoe checkpoint` as a user calls it.
namespace flex::testing {
namespace {

using ::testing::HasSubstr;

class CheckpointProgram : public ::testing::Test {
 protected:
  CheckpointProgram() {
    for (const std::int64_t step : {3, 12}) {
      run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
        RankContext context(world, Device::cpu());
        Trainer trainer(model_of(micro_model("swinv2", 4)), micro_training(DType::kF32, 20), {}, context);
        trainer.restore_blocking({.step = step, .updates = step - 1});
        save_checkpoint(directory_.path(), trainer);
      });
    }
  }
  [[nodiscard]] std::string path(const std::string& name = "") const { return (directory_ / name).string(); }

  TemporaryDirectory directory_;
};

TEST_F(CheckpointProgram, InspectsTheNewest) {
  const Result result = flexmoe("checkpoint inspect " + path());
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              HasSubstr(path("step_00000012") + "\nmodel model, block swinv2, timm names, 64 x 64, 5 "
                                                "classes, 4 experts\nstep 12 of 20, 11 updates"));
  EXPECT_THAT(result.out, HasSubstr("\nwhole\n"));
  EXPECT_THAT(result.out, HasSubstr("layers.2.blocks.1"));
  EXPECT_THAT(result.out, HasSubstr("[4, 128, 32]"));
}

TEST_F(CheckpointProgram, InspectsAsJson) {
  const Result result = flexmoe("checkpoint inspect --json " + path("step_00000003"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const nlohmann::json json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["step"], 3);
  EXPECT_EQ(json["whole"], true);
  EXPECT_EQ(json["model"]["moe"]["num_experts"], 4);
  std::int64_t parameters = 0;
  for (const auto& layer : json["layers"]) parameters += layer["parameters"].get<std::int64_t>();
  EXPECT_EQ(json["parameters"], parameters);
  std::int64_t expected = 0;
  for (const ParameterSpec& spec : parameter_list(model_of(micro_model("swinv2", 4))))
    expected += spec.num_elements();
  EXPECT_EQ(parameters, expected);
}

TEST_F(CheckpointProgram, SaysWhatIsDamaged) {
  std::filesystem::resize_file(directory_ / "step_00000012" / kOptimizerFile, 10);
  const Result one = flexmoe("checkpoint inspect " + path("step_00000012"));
  EXPECT_EQ(one.exit_code, 1);
  EXPECT_THAT(one.out, HasSubstr("DAMAGED: " + path("step_00000012/optimizer.safetensors") +
                                 ": has 10 bytes; the manifest says "));
  std::filesystem::resize_file(directory_ / "step_00000012" / kModelFile, 10);
  const Result cut_off = flexmoe("checkpoint inspect " + path("step_00000012"));
  EXPECT_EQ(cut_off.exit_code, 1);
  EXPECT_THAT(cut_off.out, HasSubstr("DAMAGED: " + path("step_00000012/model.safetensors") +
                                     ": has 10 bytes; the manifest says "));
  const Result newest = flexmoe("checkpoint inspect " + path());
  EXPECT_EQ(newest.exit_code, 0);
  EXPECT_THAT(newest.err, HasSubstr("model.safetensors: has 10 bytes"));
  EXPECT_THAT(newest.out, HasSubstr("step 3 of 20"));
}

TEST_F(CheckpointProgram, ConvertsThereAndBack) {
  const Result there =
      flexmoe("checkpoint convert " + path() + " --to swin_moe --ranks 2 -o " + path("out.safetensors"));
  EXPECT_EQ(there.exit_code, 0) << there.err;
  EXPECT_EQ(there.out, path("out.rank0.safetensors") + "\n" + path("out.rank1.safetensors") + "\n" +
                           path("out.safetensors") + "\n");
  const Result shown = flexmoe("checkpoint inspect " + path("out.safetensors"));
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("block swinv2, swin_moe names"));
  EXPECT_THAT(shown.out, HasSubstr("experts in the files of 2 rank(s)"));
  EXPECT_EQ(
      flexmoe("checkpoint convert " + path("out.safetensors") + " --to flex -o " + path("back.safetensors"))
          .exit_code,
      0);
  const SafetensorsFile back(directory_ / "back.safetensors");
  const SafetensorsFile original(directory_ / "step_00000012" / kModelFile);
  ASSERT_EQ(back.tensors().size(), original.tensors().size());
  for (const SafetensorsTensor& tensor : original.tensors())
    EXPECT_EQ(back.at(tensor.name).values<float>(), tensor.values<float>()) << tensor.name;
}

TEST_F(CheckpointProgram, RefusesInOneLine) {
  const auto error = [](const std::string& arguments) {
    const Result result = flexmoe("checkpoint " + arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(error("convert " + path() + " -o x.safetensors --to onnx"), HasSubstr("--to"));
  EXPECT_THAT(error("convert " + path() + " -o x.safetensors --to swin_moe --ranks 3"),
              HasSubstr("4 experts do not spread over 3 ranks"));
  std::filesystem::create_directory(directory_ / "empty");
  EXPECT_THAT(error("inspect " + path("empty")),
              HasSubstr("holds neither manifest.json nor a whole checkpoint"));
  EXPECT_THAT(error("inspect " + path("nothing")), HasSubstr("nothing"));
}

}  // namespace
}  // namespace flex::testing
