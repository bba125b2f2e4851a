#include "models/checkpoint/checkpoint_folder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <random>

#include "base/atomic_file.h"
#include "base/file_error.h"
#include "base/log.h"
#include "models/checkpoint/checkpoint_manifest.h"

namespace flex {
namespace {

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::size_t kStepDigits = 8;

bool is_checkpoint_name(std::string_view name) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  return name.size() >= kStepDigits && name.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_leftover_name(std::string_view name) {
  return name.starts_with(".") && name.substr(1).starts_with(kPrefix) && name.ends_with(kTemporarySuffix);
}

std::filesystem::path temporary_neighbour(const std::filesystem::path& folder, const std::string& name) {
  std::random_device device;
  return folder / fmt::format(".{}.{:08x}{}", name, device(), kTemporarySuffix);
}

template <class Wanted>
std::vector<std::filesystem::path> directories_in(const std::filesystem::path& folder, const Wanted& wanted) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return found;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (wanted(entry->path().filename().string())) found.push_back(entry->path());
  }
  if (error) fail_file("list", folder, error.value());
  return found;
}

void remove_whole(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) fail_file("remove", path, error.value());
}

// Under a temporary name first: a process that is killed here leaves no half of a checkpoint.
void remove_checkpoint(const std::filesystem::path& path) {
  const std::filesystem::path doomed = temporary_neighbour(path.parent_path(), path.filename().string());
  if (::rename(path.c_str(), doomed.c_str()) != 0) fail_file("remove", path, errno);
  remove_whole(doomed);
}

// Nothing, or why a checkpoint is not whole.
std::optional<std::string> why_damaged(const std::filesystem::path& path, bool reads_files) {
  try {
    check_files(read_manifest(path), path, reads_files);
    return std::nullopt;
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

std::string checkpoint_name(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found = directories_in(folder, is_checkpoint_name);
  // Numbers of more digits are larger.
  std::ranges::sort(found, std::greater<>(), [](const std::filesystem::path& path) {
    const std::string name = path.filename().string();
    return std::pair(name.size(), name);
  });
  return found;
}

FoundCheckpoint find_latest_checkpoint(const std::filesystem::path& folder) {
  FoundCheckpoint found;
  for (const std::filesystem::path& path : list_checkpoints(folder)) {
    if (auto reason = why_damaged(path, true)) {
      found.damaged.push_back(std::move(*reason));
    } else {
      found.path = path;
      break;
    }
  }
  return found;
}

CheckpointDirectory::CheckpointDirectory(const std::filesystem::path& folder, std::int64_t step)
    : final_(folder / checkpoint_name(step)) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_file("make", folder, error.value());
  for (const std::filesystem::path& leftover : directories_in(folder, is_leftover_name))
    remove_whole(leftover);
  const std::filesystem::path temporary = temporary_neighbour(folder, checkpoint_name(step));
  if (::mkdir(temporary.c_str(), 0777) != 0) fail_file("make", temporary, errno);
  temporary_ = temporary;
}

CheckpointDirectory::~CheckpointDirectory() {
  if (temporary_.empty()) return;
  std::error_code error;
  std::filesystem::remove_all(temporary_, error);
  if (error) log_warning("temporary directory {} not removed: {}", temporary_.string(), error.message());
}

std::filesystem::path CheckpointDirectory::commit() {
  sync_directory(temporary_);
  if (::rename(temporary_.c_str(), final_.c_str()) != 0) {
    if (errno != EEXIST && errno != ENOTEMPTY) fail_file("make", final_, errno);
    // One of that step is there, as when training goes on from an older checkpoint than the newest. Where the
    // file system cannot exchange two names there is a moment without either.
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, final_.c_str(), RENAME_EXCHANGE) == 0) {
      remove_whole(temporary_);
    } else {
      remove_checkpoint(final_);
      if (::rename(temporary_.c_str(), final_.c_str()) != 0) fail_file("make", final_, errno);
    }
  }
  temporary_.clear();
  sync_directory(final_.parent_path());
  return final_;
}

void prune_checkpoints(const std::filesystem::path& folder, std::int64_t keep) {
  std::int64_t kept = 0;
  for (const std::filesystem::path& path : list_checkpoints(folder)) {
    if (kept == keep) {
      remove_checkpoint(path);
    } else if (!why_damaged(path, false)) {
      ++kept;
    }
  }
}

}  // namespace flex
