#include "traces/byte_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file_descriptor.h"
#include "base/file_error.h"

namespace flex {
namespace {

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::filesystem::path& path)
      : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (!file_.is_open()) fail_file("open", path_, errno);
  }

  [[nodiscard]] std::size_t read(std::span<char> bytes) override {
    while (true) {
      const ssize_t count = ::read(file_.get(), bytes.data(), bytes.size());
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) fail_file("read", path_, errno);
    }
  }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string content) : content_(std::move(content)) {}

  [[nodiscard]] std::size_t read(std::span<char> bytes) override {
    const std::size_t count = std::min(bytes.size(), content_.size() - at_);
    std::memcpy(bytes.data(), content_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  std::string content_;
  std::size_t at_ = 0;
};

}  // namespace

std::unique_ptr<ByteSource> open_file_source(const std::filesystem::path& path) {
  return std::make_unique<FileSource>(path);
}

std::unique_ptr<ByteSource> memory_source(std::string content) {
  return std::make_unique<MemorySource>(std::move(content));
}

bool is_gzip_name(const std::filesystem::path& path) { return path.extension() == ".gz"; }

std::unique_ptr<ByteSource> open_text_source(const std::filesystem::path& path) {
  auto file = open_file_source(path);
  return is_gzip_name(path) ? gzip_source(std::move(file)) : std::move(file);
}

}  // namespace flex
