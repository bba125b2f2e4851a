#include <gmock/gmock.h>

#include "models/data/batch_loader.h"
#include "models/data/data_config.h"
#include "models/training_config.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/data/image_files.h"

namespace flex {
namespace {

using testing::encode_jpeg;
using testing::encode_png;
using ::testing::HasSubstr;
using testing::textured_image;
using testing::write_bytes;

// A tree of 2 classes with 10 good images each, and among them three bad ones.
void write_tree(const std::filesystem::path& root) {
  for (int i = 0; i < 10; ++i) {
    const RgbImage image = textured_image(40 + i, 64, static_cast<std::uint64_t>(i));
    write_bytes(root / "first" / (std::to_string(i) + ".jpg"), encode_jpeg(image, 90));
    write_bytes(root / "second" / (std::to_string(i) + ".png"), encode_png(image));
  }
  write_bytes(root / "first/3_empty.jpg", "");
  write_bytes(root / "second/3_text.png", "text");
  const std::string jpeg = encode_jpeg(textured_image(50, 50, 99), 90);
  write_bytes(root / "second/4_cut.jpg", jpeg.substr(0, jpeg.size() - 200));
}

std::vector<float> batches(const DataConfig& config, int num_workers) {
  LoaderOptions options;
  options.local_batch = 6;
  options.image_size = 32;
  options.num_workers = num_workers;
  options.augment = config.augment;
  options.max_corrupt_fraction = config.max_corrupt_fraction;
  BatchLoader loader(make_image_set(config, DataSplit::kTraining), options);
  std::vector<float> values;
  for (int i = 0; i < 12; ++i) {
    const ImageBatch batch = loader.next_blocking();
    values.insert(values.end(), batch.images.as<float>(),
                  batch.images.as<float>() + batch.images.num_elements());
  }
  EXPECT_EQ(loader.num_corrupt(), 3);
  return values;
}

TEST(ImageLoading, AFolderWithBadFilesTrainsTheSameWithAnyWorkers) {
  const TemporaryDirectory root;
  write_tree(root.path());
  const DataConfig config = {.kind = DataKind::kFolder,
                             .training = root.path(),
                             .augment = AugmentConfig::swin(),
                             .max_corrupt_fraction = 0.2};
  ::testing::internal::CaptureStderr();
  const std::vector<float> expected = batches(config, 1);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("3_empty.jpg: is empty"));
  EXPECT_THAT(log, HasSubstr("3_text.png: is neither JPEG nor PNG"));
  EXPECT_THAT(log, HasSubstr("4_cut.jpg: corrupt JPEG: "));
  EXPECT_EQ(batches(config, 3), expected);
}

TEST(ImageLoading, AModelFileNamesItsData) {
  const TemporaryDirectory root;
  write_tree(root / "images/train");
  write_bytes(root / "images/val/second/a.png", encode_png(textured_image(40, 40, 1)));
  const std::string model =
      R"({"size": "tiny", "image_size": 64, "window_size": 4, "num_classes": 2, "block": "swinv2")";
  write_bytes(root / "plain.json", model + "}");
  const DataConfig plain = read_model_file(root / "plain.json").data;
  EXPECT_EQ(plain.kind, DataKind::kProcedural);
  EXPECT_EQ(plain.augment, procedural_augment());
  EXPECT_EQ(plain.procedural.num_classes, 2) << "the model's";
  EXPECT_EQ(plain.procedural.image_size, 64) << "the model's";
  write_bytes(
      root / "model.json",
      model + R"(, "data": {"kind": "folder", "train": "images/train", "validation": "images/val"}})");
  const ModelFile file = read_model_file(root / "model.json");
  EXPECT_EQ(make_image_set(file.data, DataSplit::kTraining)->num_images(), 23);
  const auto validation = make_image_set(file.data, DataSplit::kValidation);
  EXPECT_EQ(validation->num_images(), 1);
  EXPECT_EQ(validation->label(0), 1) << "second is the second class, though alone here";
}

}  // namespace
}  // namespace flex
