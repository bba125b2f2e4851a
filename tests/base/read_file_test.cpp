#include "base/read_file.h"

#include <fstream>

#include "base/error.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

TEST(ReadFile, ReturnsAllBytes) {
  const TemporaryDirectory directory;
  const std::string content = std::string(200'000, 'a') + '\0' + "b\n";
  std::ofstream(directory / "file") << content;
  EXPECT_EQ(read_file(directory / "file", 1'000'000), content);
}

TEST(ReadFile, RefusesMoreThanTheLimit) {
  const TemporaryDirectory directory;
  std::ofstream(directory / "file") << "12345";
  EXPECT_EQ(read_file(directory / "file", 5), "12345");
  EXPECT_THAT(message_of<InputError>([&] { (void)read_file(directory / "file", 4); }),
              testing::EndsWith("file: is larger than 4 bytes, the most read here"));
  EXPECT_THROW((void)read_file("/dev/zero", 100'000), InputError);  // endless
}

TEST(ReadFile, NamesTheFileAndTheReason) {
  const TemporaryDirectory directory;
  const std::string path = (directory / "none").string();
  EXPECT_EQ(message_of<FileError>([&] { (void)read_file(path, 10); }),
            "cannot open " + path + ": No such file or directory");
  EXPECT_EQ(message_of<FileError>([&] { (void)read_file(directory.path(), 10); }),
            "cannot read " + directory.path().string() + ": Is a directory");
}

}  // namespace
}  // namespace flex
