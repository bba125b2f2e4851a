#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace flex {

/// Bytes in order, from a file or from memory.
class ByteSource {
 public:
  ByteSource() = default;
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// Fills the beginning of `bytes` and says how far; 0: there are no more.
  /// @throws FileError if the system cannot read; InputError, without a place, if the content is damaged,
  /// after everything before the damage was given.
  [[nodiscard]] virtual std::size_t read(std::span<char> bytes) = 0;
};

/// @throws FileError
[[nodiscard]] std::unique_ptr<ByteSource> open_file_source(const std::filesystem::path& path);
[[nodiscard]] std::unique_ptr<ByteSource> memory_source(std::string content);
/// What `compressed` holds, in one or several gzip members. A cut or damaged one is an InputError.
[[nodiscard]] std::unique_ptr<ByteSource> gzip_source(std::unique_ptr<ByteSource> compressed);

/// True for names that end in .gz.
[[nodiscard]] bool is_gzip_name(const std::filesystem::path& path);
/// A file, unpacked if is_gzip_name(). @throws FileError
[[nodiscard]] std::unique_ptr<ByteSource> open_text_source(const std::filesystem::path& path);

}  // namespace flex
