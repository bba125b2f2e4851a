#include "models/data/cifar_set.h"

#include <gmock/gmock.h>

#include <fstream>

#include "base/error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// Planes of one value each.
std::string record(const std::string& labels, char red, char green, char blue) {
  return labels + std::string(1024, red) + std::string(1024, green) + std::string(1024, blue);
}

void write_training_batches(const std::filesystem::path& folder) {
  for (int number = 1; number <= 5; ++number) {
    const auto label = static_cast<char>(number);
    write(folder / ("data_batch_" + std::to_string(number) + ".bin"),
          record({label}, 10, 20, 30) + record({'\0'}, label, 0, 0));
  }
}

TEST(CifarSet, ReadsCifar10) {
  const TemporaryDirectory folder;
  write_training_batches(folder.path());
  std::string second = record({'\x02'}, 10, 20, 30) + record({'\0'}, 2, 0, 0);
  second[1 + 1024 + 33] = 99;  // green of the second row's second pixel
  write(folder / "data_batch_2.bin", second);
  const CifarSet set(CifarKind::kCifar10, folder.path(), DataSplit::kTraining);
  ASSERT_EQ(set.num_images(), 10);
  EXPECT_EQ(set.class_names().at(3), "3");
  EXPECT_EQ(set.label(2), 2);
  EXPECT_EQ(set.label(9), 0);
  EXPECT_EQ(set.where(9), (folder / "data_batch_5.bin").string() + ": record 1");
  RgbImage image;
  set.read(2, 0, image);
  EXPECT_EQ(image.height, 32);
  EXPECT_EQ(image.width, 32);
  ASSERT_EQ(image.pixels.size(), 3072U);
  EXPECT_EQ(image.pixels[0], 10);
  EXPECT_EQ(image.pixels[2], 30);
  EXPECT_EQ(image.pixels[3 * 33 + 1], 99);
  EXPECT_EQ(image.pixels[3 * 34 + 1], 20);
  EXPECT_THAT([&] { (void)set.label(10); },
              ThrowsMessage<InputError>("CifarSet: there is no image 10 among 10"));
}

TEST(CifarSet, ReadsTheFineLabelsOfCifar100) {
  const TemporaryDirectory folder;
  write(folder / "test.bin", record({'\x07', '\x63'}, 1, 2, 3));
  std::string names;
  for (int label = 0; label < 100; ++label) names += "class" + std::to_string(label) + "\r\n";
  write(folder / "fine_label_names.txt", names);
  const CifarSet set(CifarKind::kCifar100, folder.path(), DataSplit::kValidation);
  EXPECT_EQ(set.label(0), 99);
  EXPECT_EQ(set.class_names().at(99), "class99");
  RgbImage image;
  set.read(0, 0, image);
  EXPECT_EQ(image.pixels[2], 3);
}

TEST(CifarSet, FilesThatCannotBeAreNamed) {
  const TemporaryDirectory folder;
  const auto open = [&] { CifarSet(CifarKind::kCifar10, folder.path(), DataSplit::kValidation); };
  EXPECT_THAT(open, ThrowsMessage<FileError>(HasSubstr("test_batch.bin: No such file")));
  write(folder / "test_batch.bin", "");
  EXPECT_THAT(open,
              ThrowsMessage<InputError>(HasSubstr("is of 0 bytes; it must be one or more records of 3073")));
  write(folder / "test_batch.bin", record({'\x01'}, 0, 0, 0) + "x");
  EXPECT_THAT(open, ThrowsMessage<InputError>(HasSubstr("is of 3074 bytes")));
  write(folder / "test_batch.bin", record({'\x01'}, 0, 0, 0) + record({'\x0A'}, 0, 0, 0));
  EXPECT_THAT(open, ThrowsMessage<InputError>(
                        HasSubstr("test_batch.bin: record 1: has the label 10; labels are below 10")));
  write(folder / "test_batch.bin", record({'\x01'}, 0, 0, 0));
  write(folder / "batches.meta.txt", "cat\ndog\n");
  EXPECT_THAT(open,
              ThrowsMessage<InputError>(HasSubstr("batches.meta.txt: has 2 names; there are 10 classes")));
}

}  // namespace
}  // namespace flex
