#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// The folder that holds a run's checkpoints, each a directory `step_00001200`. Beside them there may be what
/// a killed process left, `.step_00001200.HEX.tmp`, which nobody reads and the next save removes. One job
/// writes to a folder at a time.
namespace flex {

/// `step_00001200`.
[[nodiscard]] std::string checkpoint_name(std::int64_t step);

/// Checkpoints in `folder`, whole or not, the newest first; none if there is no folder. @throws FileError.
[[nodiscard]] std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

/// The newest whole checkpoint, and why newer ones are not.
struct FoundCheckpoint {
  std::optional<std::filesystem::path> path;
  std::vector<std::string> damaged;  ///< one line each, the newest first
};
/// Reads files whole, to compare their checksums, until one checkpoint is right. @throws FileError.
[[nodiscard]] FoundCheckpoint find_latest_checkpoint(const std::filesystem::path& folder);

/// A directory that becomes `folder/step_...` with commit(); until then a neighbour of it with a temporary
/// name, which the destructor removes.
class CheckpointDirectory {
 public:
  /// Makes `folder` if need be, and removes what was left there. @throws FileError.
  CheckpointDirectory(const std::filesystem::path& folder, std::int64_t step);
  ~CheckpointDirectory();
  CheckpointDirectory(const CheckpointDirectory&) = delete;
  CheckpointDirectory& operator=(const CheckpointDirectory&) = delete;

  /// Where files are to be written, each of them synced.
  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }
  /// Makes all of it visible and durable at once; a checkpoint of that step is replaced. Returns its path.
  /// @throws FileError.
  std::filesystem::path commit();

 private:
  std::filesystem::path final_;
  std::filesystem::path temporary_;
};

/// Removes the oldest checkpoints but for the newest `keep` whole ones (by their sizes) and all that are
/// newer than the oldest of those. @throws FileError.
void prune_checkpoints(const std::filesystem::path& folder, std::int64_t keep);

}  // namespace flex
