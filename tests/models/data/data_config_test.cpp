#include "models/data/data_config.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/json_object.h"
#include "models/data/image_set.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

DataConfig config_of(const std::string& text) {
  return read_data_config(JsonObject(parse_json(text, "m.json"), "m.json"), "/configs");
}

TEST(DataConfig, ReadsEveryKey) {
  const DataConfig config =
      config_of(R"({"kind": "folder", "train": "images/train", "validation": "/data/val",
    "augment": "swin", "workers": 6, "prefetch": 4, "max_corrupt_fraction": 0.25})");
  EXPECT_EQ(config.kind, DataKind::kFolder);
  EXPECT_EQ(config.training, "/configs/images/train");
  EXPECT_EQ(config.validation, "/data/val");
  EXPECT_EQ(config.augment, AugmentConfig::swin());
  EXPECT_EQ(config.num_workers, 6);
  EXPECT_EQ(config.prefetch, 4);
  EXPECT_EQ(config.max_corrupt_fraction, 0.25);
}

TEST(DataConfig, CifarHasOnePath) {
  const DataConfig config = config_of(R"({"kind": "cifar100", "path": "cifar"})");
  EXPECT_EQ(config.kind, DataKind::kCifar100);
  EXPECT_EQ(config.training, "/configs/cifar");
  EXPECT_EQ(config.validation, config.training);
  EXPECT_EQ(config.augment, AugmentConfig::none());
  EXPECT_THAT([] { config_of(R"({"kind": "cifar10", "train": "x"})"); },
              ThrowsMessage<InputError>(HasSubstr("m.json: train: unknown key")));
}

TEST(DataConfig, ProceduralImagesAreTheDefault) {
  EXPECT_EQ(config_of("{}"), DataConfig{.augment = procedural_augment()});
  EXPECT_EQ(procedural_augment().central_share, 1) << "images are of the model's size already";
  const DataConfig config = config_of(R"({"images": 12, "validation_images": 4, "classes": 3, "size": 32,
    "seed": 5, "nuisance": 0.25})");
  EXPECT_EQ(config.procedural, (ProceduralData{.num_images = 12,
                                               .num_validation_images = 4,
                                               .num_classes = 3,
                                               .image_size = 32,
                                               .seed = 5,
                                               .nuisance = 0.25}));
  const auto training = make_image_set(config, DataSplit::kTraining);
  const auto validation = make_image_set(config, DataSplit::kValidation);
  EXPECT_EQ(training->num_images(), 12);
  EXPECT_EQ(validation->num_images(), 4);
  EXPECT_EQ(training->class_names(), validation->class_names());
  RgbImage one;
  RgbImage other;
  training->read(0, 0, one);
  validation->read(0, 0, other);
  EXPECT_NE(one.pixels, other.pixels) << "no image is in both";
}

TEST(DataConfig, ReadsBackWhatItWrites) {
  for (
      const std::string text :
      {R"({"images": 12, "classes": 3, "size": 32, "nuisance": 0.1, "seed": 9})",
       R"({"kind": "folder", "train": "a/../b", "validation": "/v", "augment": "swin", "workers": 5})",
       R"({"kind": "cifar10", "path": "/c", "augment": "light", "prefetch": 7, "max_corrupt_fraction": 0.5})",
       R"({"kind": "folder"})"}) {
    DataConfig config = config_of(text);
    config.training = config.training.lexically_normal();
    EXPECT_EQ(config_of(to_json(config).dump()), config) << text;
  }
}

TEST(DataConfig, AnotherSourceKeepsTheRest) {
  const TemporaryDirectory root;
  const std::string path = root.path().string();
  DataConfig config = config_of(R"({"augment": "swin", "workers": 5})");
  config = with_data_source(config, "folder:" + path);
  EXPECT_EQ(config.kind, DataKind::kFolder);
  EXPECT_EQ(config.training, path) << "classes themselves";
  EXPECT_FALSE(has_validation(config));
  EXPECT_EQ(config.augment, AugmentConfig::swin());
  EXPECT_EQ(config.num_workers, 5);
  std::filesystem::create_directories(root / "train");
  std::filesystem::create_directories(root / "val");
  config = with_data_source(config, "folder:" + path);
  EXPECT_EQ(config.training, root / "train");
  EXPECT_EQ(config.validation, root / "val");
  config = with_data_source(config, "cifar100:" + path);
  EXPECT_EQ(config.kind, DataKind::kCifar100);
  EXPECT_EQ(config.validation, path);
  EXPECT_EQ(with_data_source(config, "procedural").kind, DataKind::kProcedural);
  const auto fails = [&](const std::string& source, const std::string& message) {
    EXPECT_THAT([&] { static_cast<void>(with_data_source(config, source)); },
                ThrowsMessage<InputError>(HasSubstr(message)));
  };
  fails("cifar:" + path,
        "there is no kind 'cifar' of data (did you mean cifar10?); there are procedural, folder");
  fails("folder", "the folder is missing; write KIND:FOLDER");
  fails("folder:", "the folder is missing; write KIND:FOLDER");
  fails("procedural:x", "procedural images have no folder");
  fails("folder:" + path + "/none", path + "/none is no folder");
}

// @source Swin's released configuration
TEST(DataConfig, SwinIsThePublishedRecipe) {
  const AugmentConfig config = augment_preset("swin");
  EXPECT_EQ(config.rand_augment.num_ops, 2);
  EXPECT_EQ(config.rand_augment.magnitude, 9);
  EXPECT_EQ(config.rand_augment.magnitude_std, 0.5);
  EXPECT_EQ(config.erase, 0.25);
  EXPECT_EQ(config.mix.mixup, 0.8);
  EXPECT_EQ(config.mix.cutmix, 1.0);
  EXPECT_EQ(config.mix.probability, 1.0);
  EXPECT_EQ(config.mix.cutmix_share, 0.5);
  EXPECT_EQ(config.flip, 0.5);
  EXPECT_EQ(config.crop.min_area, 0.08);
  EXPECT_EQ(config.interpolation, Interpolation::kBicubic);
}

TEST(DataConfig, AugmentationCanBeAnObject) {
  const AugmentConfig config = config_of(R"({"kind": "folder", "train": "t", "augment": {"preset": "light",
    "random_crop": true, "crop_area": [0.5, 0.9], "crop_aspect": [0.5, 2], "flip": 0.1, "colour_jitter": 0.3,
    "rand_augment": {"num_ops": 3, "magnitude": 5, "magnitude_std": 0, "probability": 1}, "erase": 0.2,
    "mixup": 0.1, "cutmix": 0.2, "mix_probability": 0.3, "cutmix_share": 0.4, "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3], "deviation": [1, 2, 3], "central_share": 1}})")
                                   .augment;
  AugmentConfig expected;
  expected.random_crop = true;
  expected.crop = {.min_area = 0.5, .max_area = 0.9, .min_aspect = 0.5, .max_aspect = 2};
  expected.flip = 0.1;
  expected.colour_jitter = 0.3;
  expected.rand_augment = {.num_ops = 3, .magnitude = 5, .magnitude_std = 0, .probability = 1};
  expected.erase = 0.2;
  expected.mix = {.mixup = 0.1, .cutmix = 0.2, .probability = 0.3, .cutmix_share = 0.4};
  expected.interpolation = Interpolation::kBilinear;
  expected.normalization = {{0.1, 0.2, 0.3}, {1, 2, 3}};
  expected.central_share = 1;
  EXPECT_EQ(config, expected);
  const AugmentConfig light =
      config_of(R"({"kind": "folder", "train": "t", "augment": {"preset": "light"}})").augment;
  EXPECT_EQ(light, AugmentConfig::light());
  EXPECT_NE(light, AugmentConfig::none());
}

TEST(DataConfig, WhatCannotBeIsNamed) {
  const auto fails = [](const std::string& text, const std::string& message) {
    EXPECT_THAT([&] { config_of(text); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  fails(R"({"kind": "folders", "train": "t"})", "did you mean folder?");
  fails(R"({"kind": "folder", "train": "t", "worker": 2})",
        "m.json: worker: unknown key; did you mean \"workers\"?");
  fails(R"({"kind": "folder", "train": "t", "workers": 0})", "m.json: workers: is 0");
  fails(R"({"kind": "folder", "train": "t", "augment": "swim"})", "did you mean swin?");
  fails(R"({"kind": "folder", "train": "t", "augment": 3})", "m.json: augment: ");
  fails(R"({"kind": "folder", "train": "t", "augment": {"flips": 1}})",
        "m.json: augment.flips: unknown key; did you mean \"flip\"?");
  fails(R"({"kind": "folder", "train": "t", "augment": {"crop_area": [0.9, 0.5]}})",
        "augment.crop_area: must be [least, most]");
  fails(R"({"kind": "folder", "train": "t", "augment": {"mean": [0.5]}})", "augment.mean: has 1 numbers");
  fails(R"({"kind": "folder", "train": "t", "augment": {"rand_augment": {"magnitude": 11}}})",
        "augment.rand_augment.magnitude: is 11");
  EXPECT_THAT([] { (void)augment_preset("heavy"); },
              ThrowsMessage<InputError>("'heavy' is no augmentation; there are none, light and swin"));
  EXPECT_THAT(
      [] { (void)make_image_set(config_of(R"({"kind": "folder", "train": "t"})"), DataSplit::kValidation); },
      ThrowsMessage<InputError>("data.validation: is missing; it names the folder of the validation images"));
  EXPECT_THAT([] { (void)make_image_set(config_of(R"({"kind": "cifar10"})"), DataSplit::kTraining); },
              ThrowsMessage<InputError>(
                  "data.path: is missing; it names the folder of the images, as --data cifar10:FOLDER does"));
  EXPECT_THAT([] { (void)make_image_set(config_of(R"({"validation_images": 0})"), DataSplit::kValidation); },
              ThrowsMessage<InputError>("data.validation_images: is 0; there is nothing to evaluate on"));
}

}  // namespace
}  // namespace flex
