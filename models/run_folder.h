#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "models/training_config.h"
#include "runtime/communicator.h"

namespace flex {

/// The names in the folder of a training run.
struct RunPaths {
  std::filesystem::path folder;

  [[nodiscard]] std::filesystem::path config() const { return folder / "config.json"; }
  [[nodiscard]] std::filesystem::path classes() const { return folder / "classes.json"; }
  [[nodiscard]] std::filesystem::path metrics() const { return folder / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path checkpoints() const { return folder / "checkpoints"; }
  [[nodiscard]] std::filesystem::path evaluation() const { return folder / "evaluation.json"; }
  /// The recording of the part of the run that began after `step` steps: `trace.jsonl.gz`, or
  /// `trace.from_00000120.jsonl.gz`.
  [[nodiscard]] std::filesystem::path trace(std::int64_t step) const;
};

/// Where a run begins or goes on.
struct RunStart {
  bool resumes = false;                ///< the folder held a run before
  std::filesystem::path checkpoint{};  ///< empty: from the beginning
  std::int64_t step = 0;               ///< steps that are done
  std::vector<std::string> damaged{};  ///< newer checkpoints that are not whole, and why
};

/// The folder of one training run, which one job writes at a time: rank 0 holds a lock on it. Until keep()
/// was called, what this made goes away with it: a run that fails before it has done anything leaves nothing
/// behind.
class RunFolder {
 public:
  /// Rank 0 makes `folder`, or finds the newest whole checkpoint in it if `resumes`; then all ranks know.
  /// Collective. @throws InputError if there is a run that was not to be resumed, something else than a run,
  /// another job, or no whole checkpoint among several; FileError.
  RunFolder(const std::filesystem::path& folder, bool resumes, Communicator& control);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  [[nodiscard]] const RunPaths& paths() const { return paths_; }
  [[nodiscard]] const RunStart& start() const { return start_; }

  /// Writes config.json and classes.json, and removes recordings of parts that began after the start: the
  /// folder becomes that of a run that never went further. Rank 0 only. @throws FileError.
  void begin(const ModelFile& file, std::span<const std::string> class_names);
  /// What is there stays.
  void keep() { is_kept_ = true; }

 private:
  void open(bool resumes);
  void lock();
  void share_start_blocking(Communicator& control);

  RunPaths paths_;
  RunStart start_;
  FileDescriptor lock_;
  bool is_writer_;
  bool made_folder_ = false;
  bool is_kept_ = false;
};

/// Names of classes by label, as classes.json has them. @throws InputError, FileError.
[[nodiscard]] std::vector<std::string> read_class_names(const std::filesystem::path& path);

}  // namespace flex
