#include "models/saved_model.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/require.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/load_averages.h"
#include "models/run_folder.h"
#include "runtime/gather_texts.h"

namespace flex {
namespace {

namespace fs = std::filesystem;

// Whether ParameterFiles would find something.
bool is_parameter_file(const fs::path& path) {
  constexpr std::string_view kSuffix = ".safetensors";
  std::string stem = path.string();
  if (stem.ends_with(kSuffix)) stem.resize(stem.size() - kSuffix.size());
  constexpr std::array<std::string_view, 3> kKinds = {"", ".master", ".rank0"};
  return fs::is_regular_file(path) || std::ranges::any_of(kKinds, [&](std::string_view kind) {
           return fs::exists(fmt::format("{}{}{}", stem, kind, kSuffix));
         });
}

// Of a run or a folder of checkpoints.
fs::path newest_checkpoint(const fs::path& path, std::vector<std::string>& damaged) {
  const RunPaths run{path};
  const fs::path folder = fs::is_directory(run.checkpoints()) ? run.checkpoints() : path;
  FoundCheckpoint found = find_latest_checkpoint(folder);
  require(found.path || found.damaged.empty(), "{}: no checkpoint is whole: {}", folder.string(),
          fmt::join(found.damaged, "; "));
  require(found.path.has_value(),
          "{}: holds no model: neither a run's checkpoints, nor {} of a checkpoint; a file of parameters is "
          "named itself",
          path.string(), kManifestFile);
  damaged = std::move(found.damaged);
  return *found.path;
}

// What the run that a checkpoint lies in says: RUN/checkpoints/step_00001200.
void read_run(const fs::path& checkpoint, SavedModel& saved) {
  const RunPaths run{fs::absolute(checkpoint).lexically_normal().parent_path().parent_path()};
  if (run.checkpoints() != fs::absolute(checkpoint).lexically_normal().parent_path()) return;
  if (fs::exists(run.config())) {
    ModelFile file = read_model_file(run.config());
    saved.file.data = std::move(file.data);
    saved.file.run = std::move(file.run);
    saved.has_data = true;
  }
  if (!fs::exists(run.classes())) return;
  saved.class_names = read_class_names(run.classes());
  require(std::ssize(saved.class_names) == saved.file.model.num_classes,
          "{}: has {} names, and the model {} classes", run.classes().string(), saved.class_names.size(),
          saved.file.model.num_classes);
}

void read_checkpoint(const fs::path& path, SavedModel& saved) {
  const fs::path checkpoint = path.has_filename() ? path : path.parent_path();  // `step_00000012/`
  CheckpointManifest manifest = read_manifest(checkpoint);
  check_files(manifest, checkpoint, false);
  saved.parameters = checkpoint;
  saved.step = manifest.state.step;
  saved.file.model = std::move(manifest.model);
  saved.file.training = std::move(manifest.training);
  read_run(checkpoint, saved);
}

void read_parameter_file(const fs::path& path, bool has_config, SavedModel& saved) {
  saved.parameters = path;
  if (has_config) return;
  std::optional<ModelConfig> model = ParameterFiles(path).model();
  require(model.has_value(), "{}: does not tell its model; name its configuration with --config FILE.json",
          path.string());
  saved.file.model = std::move(*model);
}

bool is_number(std::string_view text) {
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

SavedModel open_saved_model(const fs::path& path, const fs::path& config) {
  SavedModel saved;
  if (fs::is_directory(path)) {
    const bool is_checkpoint = fs::exists(path / kManifestFile);
    read_checkpoint(is_checkpoint ? path : newest_checkpoint(path, saved.damaged), saved);
  } else {
    require(is_parameter_file(path),
            "{}: there is no such model; it is the folder of a run, a checkpoint, or a .safetensors file",
            path.string());
    read_parameter_file(path, !config.empty(), saved);
  }
  if (config.empty()) return saved;
  saved.file = read_model_file(config);
  saved.has_data = true;
  saved.file.model = with_position_windows(saved.file.model, ParameterFiles(saved.parameters));
  if (std::ssize(saved.class_names) != saved.file.model.num_classes) saved.class_names.clear();
  return saved;
}

void load_saved_model(const SavedModel& saved, bool average, ImageClassifier& classifier,
                      RankContext& context) {
  const std::vector<std::string> paths = gather_texts_blocking(saved.parameters.string(), context.control());
  require(paths.front() == saved.parameters.string(),
          "rank {} found {}, and rank 0 {}: checkpoints are being written; name one of them", context.rank(),
          saved.parameters.string(), paths.front());
  if (average) {
    load_averages(saved.parameters, classifier.model(), context);
  } else {
    load_parameters(saved.parameters, classifier.model(), context);
  }
}

ModelConfig with_image_size(ModelConfig model, std::int64_t image_size) {
  for (std::int64_t stage = 0; stage < ModelConfig::kNumStages; ++stage)
    model.pretrained_windows[static_cast<std::size_t>(stage)] = position_window(model, stage);
  model.image_size = image_size;
  validate(model);
  return model;
}

void require_same_classes(const SavedModel& saved, const ImageSet& images) {
  const std::vector<std::string>& names = images.class_names();
  require(std::ssize(names) == saved.file.model.num_classes,
          "the images are of {} classes, and the model tells {} apart", names.size(),
          saved.file.model.num_classes);
  for (std::size_t label = 0; label < saved.class_names.size(); ++label) {
    const std::string& name = saved.class_names[label];
    require(name == names[label] || is_number(name) || is_number(names[label]),
            "class {} of the images is {}, that of the model {}", label, names[label], name);
  }
}

}  // namespace flex
