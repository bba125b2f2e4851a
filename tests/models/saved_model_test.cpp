#include "models/saved_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/read_file.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/convert_parameters.h"
#include "models/checkpoint/training_checkpoint.h"
#include "models/config_json.h"
#include "models/run_folder.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/training_runs.h"

/// Models as they are kept: found, refused, loaded.
namespace flex::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
namespace fs = std::filesystem;

ModelConfig micro() { return model_of(micro_model("swinv2", 4)); }

TrainingConfig averaging() {
  TrainingConfig training = micro_training(DType::kF32, 4);
  training.average_decay = 0.5;
  training.frozen = {"patch_embed"};
  return training;
}

// Logits of the first procedural images, of a model as it is loaded on one rank.
std::vector<float> logits_of(const SavedModel& saved, bool average = false) {
  std::vector<float> values;
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    ImageClassifier classifier(saved.file.model, saved.file.training, {}, context);
    load_saved_model(saved, average, classifier, context);
    ProceduralImages images(saved.file.model, DType::kF32, saved.file.training.batch_size, 11);
    const ConstTensorView logits = classifier.infer_blocking(images.make(0).images);
    values.assign(logits.as<float>(), logits.as<float>() + logits.num_elements());
  });
  return values;
}

/// RUN with checkpoints after 2 and 4 steps, its configuration and the names of its classes.
class SavedRun : public ::testing::Test {
 protected:
  SavedRun() {
    const RunPaths run{directory_.path()};
    run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      Trainer trainer(micro(), averaging(), {}, context);
      open_branches(trainer.model());
      trainer.optimizer().adopt_parameters_blocking();
      ProceduralImages images(micro(), DType::kF32, trainer.local_batch(), 11);
      for (std::int64_t step = 0; step < averaging().steps; ++step) {
        trainer.step_blocking(images.make(8 * step + context.rank() * trainer.local_batch()));
        if (step % 2 == 1) save_checkpoint(run.checkpoints(), trainer);
      }
    });
    ModelFile file{.model = micro(), .training = averaging()};
    file.data.num_workers = 7;
    fit_procedural_data(file);
    write_file_atomically(run.config(), to_json(file).dump());
    write_file_atomically(run.classes(), R"(["a", "b", "c", "d", "e"])");
  }
  [[nodiscard]] fs::path path(const std::string& name = "") const {
    return name.empty() ? directory_.path() : directory_ / name;
  }
  [[nodiscard]] std::string error(const fs::path& model, const fs::path& config = {}) const {
    return message_of<InputError>([&] { static_cast<void>(open_saved_model(model, config)); });
  }

  TemporaryDirectory directory_;
};

TEST_F(SavedRun, IsFoundByItsFolderAndByWhatLiesInIt) {
  for (const char* name : {"", "checkpoints", "checkpoints/step_00000004", "checkpoints/step_00000004/"}) {
    const SavedModel saved = open_saved_model(path(name));
    EXPECT_EQ(saved.parameters, path("checkpoints/step_00000004")) << name;
    EXPECT_EQ(saved.step, 4);
    EXPECT_EQ(saved.file.model, micro());
    EXPECT_EQ(saved.file.training, averaging());
    EXPECT_TRUE(saved.has_data);
    EXPECT_EQ(saved.file.data.num_workers, 7);
    EXPECT_THAT(saved.class_names, ElementsAre("a", "b", "c", "d", "e"));
    EXPECT_THAT(saved.damaged, IsEmpty());
  }
  EXPECT_EQ(open_saved_model(path("checkpoints/step_00000002")).step, 2);
}

TEST_F(SavedRun, CheckpointsAloneTellTheirModel) {
  fs::create_directory(path("elsewhere"));
  fs::rename(path("checkpoints/step_00000002"), path("elsewhere/step_00000002"));
  const SavedModel saved = open_saved_model(path("elsewhere"));
  EXPECT_EQ(saved.file.model, micro());
  EXPECT_FALSE(saved.has_data);
  EXPECT_THAT(saved.class_names, IsEmpty());
}

TEST_F(SavedRun, ADamagedCheckpointIsPassedOver) {
  fs::resize_file(path("checkpoints/step_00000004") / kModelFile, 100);
  const SavedModel saved = open_saved_model(path());
  EXPECT_EQ(saved.step, 2);
  ASSERT_THAT(saved.damaged, SizeIs(1));
  EXPECT_THAT(saved.damaged[0], HasSubstr("model.safetensors: has 100 bytes"));
  EXPECT_THAT(error(path("checkpoints/step_00000004")), HasSubstr("model.safetensors: has 100 bytes"));
  fs::remove(path("checkpoints/step_00000002") / kManifestFile);
  EXPECT_THAT(error(path()), HasSubstr(path("checkpoints").string() + ": no checkpoint is whole: "));
}

// A configuration takes the place of the run's; other class names than its classes are forgotten.
TEST_F(SavedRun, AConfigurationComesFirst) {
  ModelFile file{.model = micro()};
  file.model.num_classes = 9;
  file.model.moe.inference.capacity_factor = 2;
  fit_procedural_data(file);
  write_file_atomically(path("other.json"), to_json(file).dump());
  const SavedModel saved = open_saved_model(path(), path("other.json"));
  EXPECT_EQ(saved.file.model.num_classes, 9);
  EXPECT_EQ(saved.file.model.moe.inference.capacity_factor, 2);
  EXPECT_THAT(saved.class_names, IsEmpty());
  EXPECT_THAT(message_of<InputError>([&] { static_cast<void>(logits_of(saved)); }),
              HasSubstr("head.fc.weight is [5, 64], expected [9, 64]"));
}

// Under timm's and the released names, in one file and one for each rank: the same logits.
TEST_F(SavedRun, ParametersUnderOtherNamesAreTheSameModel) {
  const std::vector<float> expected = logits_of(open_saved_model(path()));
  const ParameterFiles files(path("checkpoints/step_00000004"));
  for (const auto& [convention, ranks] :
       {std::pair{NameConvention::kTimm, 0}, {NameConvention::kSwinMoe, 0}, {NameConvention::kSwinMoe, 2}}) {
    const fs::path file = path("converted" + std::to_string(ranks) + ".safetensors");
    convert_parameters(files, file, convention, ranks);
    const SavedModel configured = open_saved_model(file, path("config.json"));
    EXPECT_EQ(configured.step, std::nullopt);
    EXPECT_EQ(logits_of(configured), expected);
    const SavedModel own = open_saved_model(file);  // Flex's conversion keeps the configuration
    EXPECT_EQ(own.file.model, micro());
    EXPECT_FALSE(own.has_data);
  }
}

TEST_F(SavedRun, AnAverageIsLoadedInstead) {
  const SavedModel saved = open_saved_model(path());
  EXPECT_NE(logits_of(saved, true), logits_of(saved));
  run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(micro(), averaging(), {}, context);
    load_checkpoint(saved.parameters, trainer);
    ImageClassifier classifier(micro(), averaging(), {}, context);
    load_saved_model(saved, true, classifier, context);
    for (const ModelParameter& parameter : classifier.model().parameters().all()) {
      const std::string& name = parameter.spec.name;
      const bool is_frozen = name.starts_with("patch_embed");
      const ConstTensorView expected = is_frozen
                                           ? ConstTensorView(trainer.model().parameters().at(name).value)
                                           : trainer.optimizer().average(name);
      EXPECT_EQ(host_element(parameter.value, 0), host_element(expected, 0)) << name;
    }
  });
}

TEST_F(SavedRun, WhatKeepsNoAverageIsNamed) {
  convert_parameters(ParameterFiles(path("checkpoints/step_00000004")), path("x.safetensors"),
                     NameConvention::kFlex);
  EXPECT_EQ(message_of<InputError>(
                [&] { static_cast<void>(logits_of(open_saved_model(path("x.safetensors")), true)); }),
            path("x.safetensors").string() +
                ": is no checkpoint, which alone keeps a moving average of the parameters");
  run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
    RankContext context(world, Device::cpu());
    Trainer trainer(micro(), micro_training(DType::kF32, 4), {}, context);
    save_checkpoint(path("plain"), trainer);
  });
  EXPECT_EQ(
      message_of<InputError>([&] { static_cast<void>(logits_of(open_saved_model(path("plain")), true)); }),
      path("plain/step_00000000/optimizer.safetensors").string() +
          ": keeps no moving average of the parameters; training.average_decay was 0");
}

TEST_F(SavedRun, RanksMustFindTheSameCheckpoint) {
  const SavedModel newer = open_saved_model(path());
  const SavedModel older = open_saved_model(path("checkpoints/step_00000002"));
  EXPECT_EQ(message_of<InputError>([&] {
              run_ranks({2, 2}, std::chrono::seconds(60), [&](Communicator& world) {
                RankContext context(world, Device::cpu());
                ImageClassifier classifier(micro(), averaging(), {}, context);
                load_saved_model(world.rank() == 0 ? newer : older, false, classifier, context);
              });
            }),
            "rank 1 found " + older.parameters.string() + ", and rank 0 " + newer.parameters.string() +
                ": checkpoints are being written; name one of them");
}

TEST_F(SavedRun, RefusesWhatIsNoModel) {
  EXPECT_EQ(error(path("nothing")),
            path("nothing").string() +
                ": there is no such model; it is the folder of a run, a checkpoint, or a .safetensors file");
  fs::create_directory(path("empty"));
  EXPECT_EQ(error(path("empty")), path("empty").string() +
                                      ": holds no model: neither a run's checkpoints, nor manifest.json of a "
                                      "checkpoint; a file of parameters is named itself");
  std::ofstream(path("text.safetensors")) << "not one";
  EXPECT_THAT(error(path("text.safetensors")), HasSubstr(path("text.safetensors").string()));
  write_file_atomically(path("classes.json"), R"(["a", "b"])");
  EXPECT_EQ(error(path()), path("classes.json").string() + ": has 2 names, and the model 5 classes");
  EXPECT_THAT(error(path(), path("classes.json")), HasSubstr("classes.json"));
}

TEST_F(SavedRun, AFileThatTellsNoModelNeedsAConfiguration) {
  const ParameterFiles files(path("checkpoints/step_00000004"));
  convert_parameters(files, path("x.safetensors"), NameConvention::kTimm);
  // As others write it: without metadata.
  std::string bytes = read_file(path("x.safetensors"), 1 << 30);
  const std::size_t begin = bytes.find("__metadata__");
  ASSERT_NE(begin, std::string::npos);
  const std::size_t key = bytes.find("\"model\"", begin);
  ASSERT_NE(key, std::string::npos);
  bytes.replace(key, 7, "\"other\"");
  write_file_atomically(path("y.safetensors"), bytes);
  EXPECT_EQ(error(path("y.safetensors")),
            path("y.safetensors").string() +
                ": does not tell its model; name its configuration with --config FILE.json");
  EXPECT_EQ(logits_of(open_saved_model(path("y.safetensors"), path("config.json"))),
            logits_of(open_saved_model(path())));
}

// Windows of 4 on maps of 16, 8, 4 and 2 positions; at 128 pixels the last map holds a window of 4 too.
TEST(WithImageSize, KeepsTheTrainedCoordinates) {
  const ModelConfig model = with_image_size(micro(), 128);
  EXPECT_EQ(model.image_size, 128);
  EXPECT_THAT(model.pretrained_windows, ElementsAre(4, 4, 4, 2));
  EXPECT_EQ(model.window({3, 0}).window.rows, 4);
  EXPECT_THAT(with_image_size(model, 64).pretrained_windows, ElementsAre(4, 4, 4, 2));
  EXPECT_EQ(message_of<InputError>([] { static_cast<void>(with_image_size(micro(), 66)); }),
            "image_size: is 66; it must be a multiple of 4, such as 68");
}

class NamedSet final : public ImageSet {
 public:
  explicit NamedSet(std::vector<std::string> names) : names_(std::move(names)) {}
  [[nodiscard]] std::int64_t num_images() const override { return 0; }
  [[nodiscard]] const std::vector<std::string>& class_names() const override { return names_; }
  [[nodiscard]] std::int32_t label(std::int64_t /*index*/) const override { return 0; }
  [[nodiscard]] std::string where(std::int64_t /*index*/) const override { return {}; }
  void read(std::int64_t /*index*/, std::int64_t /*side*/, RgbImage& /*image*/) const override {}

 private:
  std::vector<std::string> names_;
};

TEST(RequireSameClasses, ComparesNumbersAndNames) {
  SavedModel saved;
  saved.file.model.num_classes = 2;
  const auto error = [&](std::vector<std::string> names) {
    const NamedSet images(std::move(names));
    return message_of<InputError>([&] { require_same_classes(saved, images); });
  };
  EXPECT_EQ(error({"cat", "dog", "owl"}), "the images are of 3 classes, and the model tells 2 apart");
  EXPECT_EQ(error({"cat"}), "the images are of 1 classes, and the model tells 2 apart");
  require_same_classes(saved, NamedSet({"cat", "dog"}));  // the model's names are not known
  saved.class_names = {"cat", "owl"};
  EXPECT_EQ(error({"cat", "dog"}), "class 1 of the images is dog, that of the model owl");
  require_same_classes(saved, NamedSet({"0", "1"}));  // as CIFAR's without its file of names
}

}  // namespace
}  // namespace flex::testing
