#pragma once

#include <filesystem>
#include <string>

#include "tuner/cache.h"
#include "tuner/sqlite.h"

namespace flex {

/// A store of the current schema, ready for use.
struct OpenedCache {
  Database database;
  std::string why_not_kept = {};  ///< what is written is lost at the end, because ...; empty: it is kept
};

/// Opens or creates the file; migrates it, or sets it aside and begins a fresh one, where need be. If the
/// file cannot be written, its content is copied into memory. Throws only if that fails, too.
[[nodiscard]] OpenedCache open_cache(const std::filesystem::path& path, const CacheOptions& options);

/// For a file that was opened and turned out to be damaged: sets it aside and begins a fresh one, unless
/// another process has done so.
[[nodiscard]] OpenedCache replace_damaged_cache(const std::filesystem::path& path,
                                                const CacheOptions& options);

/// The content of the file as far as it can be read, in memory; an empty store if it cannot.
[[nodiscard]] Database copy_of_cache(const std::filesystem::path& path);

/// The content of the file, in memory: migrated there, and the file left as it is.
/// @throws FileError if there is none; InputError if it is no cache that this Flex can read.
[[nodiscard]] Database read_cache(const std::filesystem::path& path);

}  // namespace flex
