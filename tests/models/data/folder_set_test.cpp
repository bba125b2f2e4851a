#include "models/data/folder_set.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/data/image_files.h"

namespace flex {
namespace {

using ::testing::ElementsAre;
using testing::encode_jpeg;
using testing::encode_png;
using ::testing::HasSubstr;
using testing::plain_image;
using ::testing::ThrowsMessage;
using testing::write_bytes;

TEST(ImageFolder, ClassesAndFilesAreSorted) {
  const TemporaryDirectory root;
  write_bytes(root / "wolf/b.JPG", encode_jpeg(plain_image(8, 8, 1, 2, 3), 90));
  write_bytes(root / "wolf/a/z.png", encode_png(plain_image(4, 6, 1, 2, 3)));
  write_bytes(root / "ant/c.jpeg", encode_jpeg(plain_image(8, 8, 1, 2, 3), 90));
  write_bytes(root / "ant/notes.txt", "no image");
  write_bytes(root / "readme.png", "not in a class");
  write_bytes(root / ".hidden/x.png", "no class");
  const ImageFolder folder(root.path());
  EXPECT_THAT(folder.class_names(), ElementsAre("ant", "wolf"));
  ASSERT_EQ(folder.num_images(), 3);
  EXPECT_EQ(folder.where(0), root / "ant/c.jpeg");
  EXPECT_EQ(folder.where(1), root / "wolf/a/z.png");
  EXPECT_EQ(folder.where(2), root / "wolf/b.JPG");
  EXPECT_EQ(folder.label(0), 0);
  EXPECT_EQ(folder.label(2), 1);
  RgbImage image;
  folder.read(1, 0, image);
  EXPECT_EQ(image.pixels, plain_image(4, 6, 1, 2, 3).pixels);
}

TEST(ImageFolder, ContentTellsTheFormat) {
  const TemporaryDirectory root;
  write_bytes(root / "c/a.jpg", encode_png(plain_image(4, 6, 1, 2, 3)));
  RgbImage image;
  ImageFolder(root.path()).read(0, 0, image);
  EXPECT_EQ(image.pixels, plain_image(4, 6, 1, 2, 3).pixels);
}

TEST(ImageFolder, WhatIsNoFolderOfClassesIsNamed) {
  const TemporaryDirectory root;
  write_bytes(root / "a.png", encode_png(plain_image(2, 2, 0, 0, 0)));
  EXPECT_THAT([&] { ImageFolder{root.path()}; },
              ThrowsMessage<InputError>(
                  HasSubstr("has no folders; images are expected in one folder for each class")));
  EXPECT_THAT([&] { ImageFolder{root / "missing"}; },
              ThrowsMessage<FileError>(HasSubstr("missing: No such file")));
  std::filesystem::create_directory(root / "empty");
  EXPECT_THAT([&] { ImageFolder{root.path()}; },
              ThrowsMessage<InputError>(HasSubstr("its 1 folders hold no .jpg, .jpeg or .png files")));
}

TEST(ImageFolder, ClassWithoutFilesIsAWarning) {
  const TemporaryDirectory root;
  write_bytes(root / "full/a.png", encode_png(plain_image(2, 2, 0, 0, 0)));
  std::filesystem::create_directory(root / "empty");
  ::testing::internal::CaptureStderr();
  const ImageFolder folder(root.path());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("empty: the class has no .jpg, .jpeg or .png files"));
  EXPECT_EQ(folder.class_names().size(), 2U);
  EXPECT_EQ(folder.label(0), 1);
}

TEST(ImageFolder, CorruptFilesAreFoundWhenTheyAreRead) {
  const TemporaryDirectory root;
  const std::string jpeg = encode_jpeg(testing::textured_image(32, 32, 1), 90);
  write_bytes(root / "c/1.jpg", "");
  write_bytes(root / "c/2.png", "this is text\n");
  write_bytes(root / "c/3.jpg", jpeg.substr(0, jpeg.size() / 2));
  const ImageFolder folder(root.path());
  ASSERT_EQ(folder.num_images(), 3);
  RgbImage image;
  const auto reason = [&](std::int64_t index, const std::string& text) {
    EXPECT_THAT([&] { folder.read(index, 0, image); },
                ThrowsMessage<InputError>(HasSubstr(folder.where(index) + ": " + text)));
  };
  reason(0, "is empty");
  reason(1, "is neither JPEG nor PNG");
  reason(2, "corrupt JPEG: Premature end of JPEG file");
}

TEST(ImageFolder, ValidationHasTheLabelsOfTraining) {
  const TemporaryDirectory root;
  write_bytes(root / "dog/a.png", encode_png(plain_image(2, 2, 0, 0, 0)));
  ::testing::internal::CaptureStderr();
  const ImageFolder folder(root.path(), {"cat", "dog"});
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("cat: there is no such folder; the class has no images here"));
  EXPECT_EQ(folder.label(0), 1);
  EXPECT_THAT(
      [&] {
        ImageFolder(root.path(), {"cat", "dogs"});
      },
      ThrowsMessage<InputError>(HasSubstr("dog: is no class of the training images; did you mean dogs?")));
}

}  // namespace
}  // namespace flex
