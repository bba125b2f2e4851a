#include "base/atomic_file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "base/error.h"
#include "base/read_file.h"
#include "tests/base/expect_error.h"
#include "tests/base/temporary_directory.h"

namespace flex {
namespace {

std::string content_of(const std::filesystem::path& path) { return read_file(path, std::int64_t{1} << 30); }

std::ptrdiff_t num_entries(const TemporaryDirectory& directory) {
  return std::distance(std::filesystem::directory_iterator(directory.path()), {});
}

TEST(AtomicFile, AppearsAtCommit) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "out");
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(std::filesystem::exists(directory / "out"));
  file.commit();
  EXPECT_EQ(content_of(directory / "out"), "one two");
  EXPECT_EQ(num_entries(directory), 1);
}

TEST(AtomicFile, KeepsTheOrderOfSmallAndLargeWrites) {
  const TemporaryDirectory directory;
  std::string expected;
  AtomicFile file(directory / "out");
  for (const std::size_t size : {std::size_t{3}, std::size_t{65'536}, std::size_t{1}, std::size_t{200'000},
                                 std::size_t{0}, std::size_t{65'535}, std::size_t{2}}) {
    const std::string piece(size, static_cast<char>('a' + expected.size() % 23));
    file.write(piece);
    expected += piece;
  }
  file.commit();
  EXPECT_EQ(content_of(directory / "out"), expected);
}

TEST(AtomicFile, WithoutCommitNothingChanges) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "out", "old");
  {
    AtomicFile file(directory / "out");
    file.write("new");
  }
  EXPECT_EQ(content_of(directory / "out"), "old");
  EXPECT_EQ(num_entries(directory), 1) << "the temporary file must be gone";
}

TEST(AtomicFile, CommitsOnce) {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "out");
  file.commit();
  EXPECT_EQ(content_of(directory / "out"), "");
  EXPECT_THAT(message_of<Error>([&] { file.write("x"); }), testing::EndsWith("it was committed already"));
  EXPECT_THAT(message_of<Error>([&] { file.commit(); }), testing::EndsWith("it was committed already"));
}

TEST(AtomicFile, KeepsPermissionsOfTheReplacedFile) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "out", "old");
  ASSERT_EQ(::chmod((directory / "out").c_str(), 0640), 0);
  write_file_atomically(directory / "out", "new");
  struct stat status = {};
  ASSERT_EQ(::stat((directory / "out").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST(AtomicFile, ReplacesTheTargetOfALink) {
  const TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "elsewhere");
  write_file_atomically(directory / "elsewhere/target", "old");
  std::filesystem::create_symlink("elsewhere/target", directory / "link");
  write_file_atomically(directory / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(directory / "link"));
  EXPECT_EQ(content_of(directory / "elsewhere/target"), "new");
}

TEST(AtomicFile, TakesALongName) {
  const TemporaryDirectory directory;
  const std::string name(255, 'n');
  write_file_atomically(directory / name, "x");
  EXPECT_EQ(content_of(directory / name), "x");
}

TEST(AtomicFile, WritesIntoTheWorkingDirectory) {
  const TemporaryDirectory directory;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  write_file_atomically("out", "x");
  std::filesystem::current_path(before);
  EXPECT_EQ(content_of(directory / "out"), "x");
}

TEST(AtomicFile, RefusesWhatIsNoFile) {
  const TemporaryDirectory directory;
  EXPECT_EQ(message_of<FileError>([&] { AtomicFile file(directory.path()); }),
            "cannot write " + directory.path().string() + ": it is there and is not a regular file");
  EXPECT_THROW(AtomicFile file("/dev/null"), FileError);  // a rename would replace the device
  EXPECT_THROW(AtomicFile file(""), FileError);
}

TEST(AtomicFile, NamesTheFileAndTheReason) {
  const TemporaryDirectory directory;
  const std::string path = (directory / "no/out").string();
  EXPECT_EQ(message_of<FileError>([&] { AtomicFile file(path); }),
            "cannot write " + path + ": No such file or directory");
  write_file_atomically(directory / "plain", "");
  EXPECT_THAT(message_of<FileError>([&] { AtomicFile file(directory / "plain/out"); }),
              testing::EndsWith("plain/out: Not a directory"));
}

TEST(AtomicFile, RefusesAnUnwritableDirectory) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0500), 0);
  EXPECT_THAT(message_of<FileError>([&] { AtomicFile file(directory / "out"); }),
              testing::EndsWith("out: Permission denied"));
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
}

// A limit on the size of files stands for a full disk: write() fails in the same place.
TEST(AtomicFile, SurvivesAFullDisk) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "out", "old");
  struct rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 100'000;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string at_write =
      message_of<FileError>([&] { write_file_atomically(directory / "out", std::string(1'000'000, 'x')); });
  small.rlim_cur = 1'000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string at_commit =  // small enough to wait in the buffer until then
      message_of<FileError>([&] { write_file_atomically(directory / "out", std::string(2'000, 'x')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(at_write, "cannot write " + (directory / "out").string() + ": File too large");
  EXPECT_EQ(at_commit, at_write);
  EXPECT_EQ(content_of(directory / "out"), "old");
  EXPECT_EQ(num_entries(directory), 1);
}

TEST(AtomicFile, OldFileSurvivesAKill) {
  const TemporaryDirectory directory;
  write_file_atomically(directory / "out", "old");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    AtomicFile file(directory / "out");
    file.write(std::string(1'000'000, 'x'));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(content_of(directory / "out"), "old");
  write_file_atomically(directory / "out", "new");  // the leftover is in nobody's way
  EXPECT_EQ(content_of(directory / "out"), "new");
}

}  // namespace
}  // namespace flex
