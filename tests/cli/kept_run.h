#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "models/checkpoint/training_checkpoint.h"
#include "models/config_json.h"
#include "models/data/procedural_set.h"
#include "models/run_folder.h"
#include "tests/base/temporary_directory.h"
#include "tests/models/configs.h"
#include "tests/models/training_runs.h"

namespace flex::testing {

/// The folder of a run of two steps: a micro model of four experts that drops nothing and keeps an average.
/// Its images are procedural, of five classes: 25 of training and 13 of validation.
class KeptRun {
 public:
  KeptRun() {
    ModelFile file{.model = model_of(micro_model("swinv2", 4)), .training = micro_training(DType::kF32, 2)};
    file.training.average_decay = 0.5;
    file.data.augment = procedural_augment();
    file.data.procedural.num_images = 25;
    file.data.procedural.num_validation_images = 13;
    fit_procedural_data(file);
    const RunPaths run{directory_.path()};
    run_ranks({1, 1}, std::chrono::seconds(60), [&](Communicator& world) {
      RankContext context(world, Device::cpu());
      Trainer trainer(file.model, file.training, {}, context);
      open_branches(trainer.model());
      trainer.optimizer().adopt_parameters_blocking();
      static_cast<void>(losses_of(trainer, context));
      save_checkpoint(run.checkpoints(), trainer);
    });
    write_file_atomically(run.config(), to_json(file).dump(2));
    const ProceduralSet images({.num_classes = file.model.num_classes});
    class_names_ = images.class_names();
    write_file_atomically(run.classes(), nlohmann::json(class_names_).dump());
    file_ = file;
  }

  [[nodiscard]] std::string path(const std::string& name = "") const {
    return name.empty() ? directory_.path().string() : (directory_ / name).string();
  }
  [[nodiscard]] const ModelFile& file() const { return file_; }
  [[nodiscard]] const std::vector<std::string>& class_names() const { return class_names_; }
  /// Writes `file` as a configuration of its own, and returns its path.
  [[nodiscard]] std::string write(const ModelFile& file, const std::string& name) const {
    write_file_atomically(directory_ / name, to_json(file).dump(2));
    return path(name);
  }

 private:
  TemporaryDirectory directory_;
  ModelFile file_;
  std::vector<std::string> class_names_;
};

}  // namespace flex::testing
