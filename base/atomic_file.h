#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"

namespace flex {

/// A file that appears whole or not at all: written under a temporary name in the same directory, then synced
/// and renamed over `path` by commit(). Until then an older file at `path` stays as it was, whatever happens
/// to the process; a process that is killed leaves its temporary file (`.NAME.HEX.tmp`) behind.
///
/// A replaced file's permission bits are kept, and a symbolic link stays and its target is replaced. Not
/// thread-safe.
class AtomicFile {
 public:
  /// Creates the temporary file.
  /// @throws FileError if the directory does not take it, or `path` is there and not a regular file.
  explicit AtomicFile(const std::filesystem::path& path);

  /// Without a commit(), removes the temporary file.
  ~AtomicFile();

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes.
  /// @throws FileError (full disk, quota, I/O); Error after commit().
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  /// Makes what was written durable and visible at `path`. Once.
  /// @throws FileError; the old file is then intact, unless the failing step is the last one (sync of the
  /// directory).
  void commit();

 private:
  void write_through(std::span<const std::byte> bytes);
  void flush();

  std::filesystem::path path_;
  std::filesystem::path temporary_path_;
  FileDescriptor file_;
  std::string buffer_;
};

/// Makes names that were given or taken in `directory` durable, where its file system knows how.
/// @throws FileError
void sync_directory(const std::filesystem::path& directory);

/// Writes `content` to `path` through an AtomicFile.
/// @throws FileError
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace flex
