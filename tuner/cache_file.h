#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/file_descriptor.h"

/// The cache as a file among others: where it lies, on what, and how it is moved out of the way.
namespace flex {

/// True for the `f_type` of statfs(2) of file systems whose files live on another machine, or may: WAL needs
/// memory that all processes share, and locks there are slow or none.
/// @source statfs(2), linux/magic.h.
[[nodiscard]] bool is_network_file_system(std::uint64_t type);
/// Of the directory that holds, or would hold, `path`. False if that cannot be told.
[[nodiscard]] bool is_on_network(const std::filesystem::path& path);

/// Renames the cache and what SQLite keeps beside it (-wal, -shm, -journal) to `PATH.SUFFIX`, or
/// `PATH.SUFFIX.2` and so on where that is taken. Returns the new name. @throws FileError
std::filesystem::path set_aside(const std::filesystem::path& path, std::string_view suffix);
/// The name that set_aside() would give.
[[nodiscard]] std::filesystem::path unused_name(const std::filesystem::path& path, std::string_view suffix);

/// Held while a cache is replaced or migrated, so that one of several processes does it: an advisory lock on
/// the directory of `path`. Where the file system has no locks, it is none.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::filesystem::path& path);

 private:
  FileDescriptor directory_;  ///< closing it gives the lock back
};

}  // namespace flex
