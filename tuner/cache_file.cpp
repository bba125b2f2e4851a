#include "tuner/cache_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "base/file_error.h"
#include "base/log.h"
#include "tuner/cache.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kNetworkTypes[] = {
    0x6969,      // NFS
    0x517B,      // SMB
    0xFE534D42,  // SMB2
    0xFF534D42,  // CIFS
    0x0BD00BD0,  // Lustre
    0x47504653,  // GPFS
    0x00C36400,  // Ceph
    0x19830326,  // BeeGFS
    0x5346414F,  // AFS
    0x73757245,  // Coda
    0x01021997,  // 9P
    0x20030528,  // OrangeFS
    0x01161970,  // GFS2
    0x7461636F,  // OCFS2
    0x65735546,  // FUSE: sshfs and others
};

// The nearest directory above `path` that exists.
fs::path existing_directory(const fs::path& path) {
  std::error_code error;
  fs::path directory = fs::absolute(path, error).parent_path();
  while (!fs::is_directory(directory, error) && directory.has_relative_path()) {
    directory = directory.parent_path();
  }
  return directory;
}

fs::path with_suffix(const fs::path& path, std::string_view suffix) {
  fs::path result = path;
  result += suffix;
  return result;
}

}  // namespace

fs::path default_cache_path() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): none sets the environment
    return fs::path(value == nullptr ? "" : value);
  };
  if (fs::path path = variable("FLEX_CACHE"); !path.empty()) return path;
  // By the XDG base directory specification a relative path counts as not set.
  if (const fs::path root = variable("XDG_CACHE_HOME"); root.is_absolute()) return root / "flexmoe/tuning.db";
  if (const fs::path home = variable("HOME"); home.is_absolute()) return home / ".cache/flexmoe/tuning.db";
  return {};
}

bool is_network_file_system(std::uint64_t type) {
  return std::ranges::find(kNetworkTypes, type) != std::end(kNetworkTypes);
}

bool is_on_network(const fs::path& path) {
  struct statfs facts = {};
  if (::statfs(existing_directory(path).c_str(), &facts) != 0) return false;
  return is_network_file_system(static_cast<std::uint32_t>(facts.f_type));  // some are negative as a long
}

fs::path unused_name(const fs::path& path, std::string_view suffix) {
  for (int attempt = 1;; ++attempt) {
    const fs::path name =
        with_suffix(path, attempt == 1 ? fmt::format(".{}", suffix) : fmt::format(".{}.{}", suffix, attempt));
    std::error_code error;
    if (!fs::exists(fs::symlink_status(name, error))) return name;
  }
}

fs::path set_aside(const fs::path& path, std::string_view suffix) {
  const fs::path name = unused_name(path, suffix);
  // The database itself last: a process that dies in between leaves a file that is found bad again, and never
  // a fresh one beside an old WAL, which SQLite would play into it.
  for (const char* part : {"-journal", "-wal", "-shm", ""}) {
    const fs::path from = with_suffix(path, part);
    std::error_code error;
    fs::rename(from, with_suffix(name, part), error);
    const bool absent = error == std::errc::no_such_file_or_directory;
    if (error && !absent) fail_file("rename", from, error.value());
  }
  return name;
}

DirectoryLock::DirectoryLock(const fs::path& path)
    : directory_(::open(existing_directory(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  int result = 0;
  do {
    result = directory_.is_open() ? ::flock(directory_.get(), LOCK_EX) : -1;
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    log_debug("tuning cache {}: its directory cannot be locked: {}", path.string(),
              std::system_category().message(errno));
  }
}

}  // namespace flex
