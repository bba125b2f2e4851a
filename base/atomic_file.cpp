#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <random>

#include "base/file_error.h"
#include "base/log.h"

namespace flex {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxNameBytesKept = 200;  // leaves room for the suffix in NAME_MAX (255)
constexpr int kMaxNameAttempts = 100;

std::filesystem::path resolve_link(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  auto target = std::filesystem::weakly_canonical(path, error);
  if (error) fail_file("follow the link", path, error.value());
  return target;
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

std::filesystem::path random_neighbour(const std::filesystem::path& path, std::random_device& device) {
  const auto bits = (static_cast<std::uint64_t>(device()) << 32) | device();
  const auto name = path.filename().string().substr(0, kMaxNameBytesKept);
  return directory_of(path) / fmt::format(".{}.{:016x}.tmp", name, bits);
}

}  // namespace

void sync_directory(const std::filesystem::path& directory) {
  FileDescriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) {
    if (errno == EACCES) return;  // a directory may be writable and not readable
    fail_file("open directory", directory, errno);
  }
  // Some network file systems do not sync directories, and need not.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail_file("sync directory", directory, errno);
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(resolve_link(path)) {
  require<FileError>(path_.has_filename(), "cannot write '{}': it names no file", path.string());
  struct stat existing = {};
  const bool replaces = ::stat(path_.c_str(), &existing) == 0;
  // A rename would turn a device or a socket into a file.
  require<FileError>(!replaces || S_ISREG(existing.st_mode),
                     "cannot write {}: it is there and is not a regular file", path_.string());
  std::random_device device;
  for (int attempt = 0; attempt < kMaxNameAttempts && !file_.is_open(); ++attempt) {
    temporary_path_ = random_neighbour(path_, device);
    file_ = FileDescriptor(::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file_.is_open() && errno != EEXIST) break;
  }
  if (!file_.is_open()) fail_file("write", path_, errno);
  if (replaces && ::fchmod(file_.get(), existing.st_mode & 07777) != 0) {
    const int reason = errno;
    ::unlink(temporary_path_.c_str());
    fail_file("set the permissions of", path_, reason);
  }
}

AtomicFile::~AtomicFile() {
  if (temporary_path_.empty()) return;
  if (::unlink(temporary_path_.c_str()) != 0) {
    log_warning("temporary file {} not removed: {}", temporary_path_.string(),
                std::system_category().message(errno));
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  require<Error>(file_.is_open(), "cannot write {}: it was committed already", path_.string());
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() > kBufferBytes) {
    write_through(bytes);
  } else {
    buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

void AtomicFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_file("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::flush() {
  write_through(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

void AtomicFile::commit() {
  require<Error>(file_.is_open(), "cannot write {}: it was committed already", path_.string());
  flush();
  if (::fsync(file_.get()) != 0) fail_file("sync", path_, errno);
  if (file_.close() != 0) fail_file("close", path_, errno);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) fail_file("replace", path_, errno);
  temporary_path_.clear();
  sync_directory(directory_of(path_));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace flex
