#include "models/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/file_error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/require.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/config_json.h"
#include "runtime/fail_together.h"
#include "runtime/gather_texts.h"

namespace flex {
namespace {

constexpr std::string_view kTracePrefix = "trace.from_";
constexpr std::string_view kTraceSuffix = ".jsonl.gz";

// Of the name of a part of a recording; nothing for another name.
std::optional<std::int64_t> trace_step(const std::string& name) {
  if (!name.starts_with(kTracePrefix) || !name.ends_with(kTraceSuffix)) return std::nullopt;
  const char* end = name.data() + name.size() - kTraceSuffix.size();
  std::int64_t step = 0;
  const auto [stop, error] = std::from_chars(name.data() + kTracePrefix.size(), end, step);
  if (error != std::errc() || stop != end) return std::nullopt;
  return step;
}

// `run/` is `run`.
std::filesystem::path without_slash(const std::filesystem::path& folder) {
  const std::filesystem::path normal = folder.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json) {
  write_file_atomically(path, json.dump(2) + "\n");
}

}  // namespace

std::filesystem::path RunPaths::trace(std::int64_t step) const {
  if (step == 0) return folder / fmt::format("trace{}", kTraceSuffix);
  return folder / fmt::format("{}{:08}{}", kTracePrefix, step, kTraceSuffix);
}

RunFolder::RunFolder(const std::filesystem::path& folder, bool resumes, Communicator& control)
    : paths_{without_slash(folder)}, is_writer_(control.rank() == 0) {
  do_patiently_together_blocking(control, [&] {
    if (is_writer_) open(resumes);
  });
  share_start_blocking(control);
}

void RunFolder::open(bool resumes) {
  const std::filesystem::path& folder = paths_.folder;
  std::error_code error;
  const bool is_there = std::filesystem::exists(folder, error);
  require(!is_there || std::filesystem::is_directory(folder), "{}: is no folder", folder.string());
  if (std::filesystem::exists(paths_.config())) {
    require(resumes, "{}: holds a run; add --resume to go on with it, or name another folder",
            folder.string());
    lock();
    FoundCheckpoint found = find_latest_checkpoint(paths_.checkpoints());
    require(found.path || found.damaged.empty(), "{}: no checkpoint is whole: {}",
            paths_.checkpoints().string(), fmt::join(found.damaged, "; "));
    start_.resumes = true;
    start_.damaged = std::move(found.damaged);
    if (!found.path) return;
    start_.checkpoint = *found.path;
    start_.step = read_manifest(*found.path).state.step;
    return;
  }
  // A job that is started again by its scheduler resumes a run that may not have come to begin.
  require(resumes || !is_there || std::filesystem::is_empty(folder),
          "{}: is not empty, and holds no run; name another folder", folder.string());
  made_folder_ = std::filesystem::create_directories(folder, error);
  if (error) fail_file("make", folder, error.value());
  lock();
}

// Of the directory itself; it ends with the process, however that ends.
void RunFolder::lock() {
  lock_ = FileDescriptor(::open(paths_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const bool is_free = !lock_.is_open() || ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0;
  require(is_free || errno != EWOULDBLOCK,  // a file system that knows no locks has none
          "{}: another process trains in it; wait for its end, or end it", paths_.folder.string());
}

void RunFolder::share_start_blocking(Communicator& control) {
  nlohmann::json mine;
  if (is_writer_)
    mine = {{"resumes", start_.resumes}, {"checkpoint", start_.checkpoint.string()}, {"step", start_.step}};
  const auto shared = nlohmann::json::parse(gather_texts_blocking(mine.dump(), control).front());
  start_.resumes = shared.at("resumes").get<bool>();
  start_.checkpoint = shared.at("checkpoint").get<std::string>();
  start_.step = shared.at("step").get<std::int64_t>();
}

void RunFolder::begin(const ModelFile& file, std::span<const std::string> class_names) {
  write_json(paths_.config(), to_json(file));
  write_json(paths_.classes(), nlohmann::ordered_json(class_names));
  for (const auto& entry : std::filesystem::directory_iterator(paths_.folder)) {
    const auto step = trace_step(entry.path().filename().string());
    if (step && *step > start_.step) std::filesystem::remove(entry.path());
  }
}

RunFolder::~RunFolder() {
  if (!is_writer_ || is_kept_) return;
  std::error_code error;
  if (made_folder_) {
    std::filesystem::remove_all(paths_.folder, error);
  } else if (start_.resumes) {
    std::filesystem::remove(paths_.trace(start_.step), error);
  } else {
    for (const auto& path : {paths_.config(), paths_.classes(), paths_.metrics(), paths_.trace(0)})
      std::filesystem::remove(path, error);
  }
  if (error) log_warning("{}: not removed: {}", paths_.folder.string(), error.message());
}

std::vector<std::string> read_class_names(const std::filesystem::path& path) {
  const nlohmann::json json = read_json_file(path);
  const bool are_names = json.is_array() && std::ranges::all_of(json, [](const nlohmann::json& name) {
                           return name.is_string();
                         });
  require(are_names, "{}: must be a list of names", path.string());
  return json.get<std::vector<std::string>>();
}

}  // namespace flex
