#include "traces/byte_sink.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/atomic_file.h"
#include "base/file_descriptor.h"
#include "base/file_error.h"
#include "traces/byte_source.h"

namespace flex {
namespace {

class GrowingFileSink final : public ByteSink {
 public:
  explicit GrowingFileSink(const std::filesystem::path& path)
      : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (!file_.is_open()) fail_file("write", path_, errno);
  }

  void write(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_file("write", path_, errno);
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void flush() override {}
  void close() override {
    if (file_.close() != 0) fail_file("close", path_, errno);
  }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

class AtomicFileSink final : public ByteSink {
 public:
  explicit AtomicFileSink(const std::filesystem::path& path) : file_(path) {}
  void write(std::string_view bytes) override { file_.write(bytes); }
  void flush() override {}
  void close() override { file_.commit(); }

 private:
  AtomicFile file_;
};

}  // namespace

std::unique_ptr<ByteSink> growing_file_sink(const std::filesystem::path& path) {
  return std::make_unique<GrowingFileSink>(path);
}

std::unique_ptr<ByteSink> atomic_file_sink(const std::filesystem::path& path) {
  return std::make_unique<AtomicFileSink>(path);
}

std::unique_ptr<ByteSink> open_growing(const std::filesystem::path& path) {
  auto file = growing_file_sink(path);
  return is_gzip_name(path) ? gzip_sink(std::move(file)) : std::move(file);
}

std::unique_ptr<ByteSink> open_atomic(const std::filesystem::path& path) {
  auto file = atomic_file_sink(path);
  return is_gzip_name(path) ? gzip_sink(std::move(file)) : std::move(file);
}

}  // namespace flex
