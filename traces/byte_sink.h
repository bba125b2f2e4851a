#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

namespace flex {

/// Where bytes go.
class ByteSink {
 public:
  ByteSink() = default;
  virtual ~ByteSink() = default;
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;

  /// @throws FileError, as all of these.
  virtual void write(std::string_view bytes) = 0;
  /// From here on a reader of what is there finds everything that was written.
  virtual void flush() = 0;
  /// Once, after the last write().
  virtual void close() = 0;
};

/// A file that grows in its place, for what must be readable after the process was killed. Replaces what was
/// there. @throws FileError
[[nodiscard]] std::unique_ptr<ByteSink> growing_file_sink(const std::filesystem::path& path);
/// A file that appears whole or not at all, see AtomicFile. @throws FileError
[[nodiscard]] std::unique_ptr<ByteSink> atomic_file_sink(const std::filesystem::path& path);
/// Packs into one gzip member. flush() costs some bytes each time.
[[nodiscard]] std::unique_ptr<ByteSink> gzip_sink(std::unique_ptr<ByteSink> packed);

/// growing_file_sink() or atomic_file_sink(), packed if is_gzip_name(). @throws FileError
[[nodiscard]] std::unique_ptr<ByteSink> open_growing(const std::filesystem::path& path);
[[nodiscard]] std::unique_ptr<ByteSink> open_atomic(const std::filesystem::path& path);

}  // namespace flex
