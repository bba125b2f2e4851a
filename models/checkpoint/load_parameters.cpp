#include "models/checkpoint/load_parameters.h"

#include "models/checkpoint/match_parameters.h"
#include "runtime/fail_together.h"

namespace flex {

LoadedParameters load_parameters(const std::filesystem::path& path, SwinV2Moe& model, RankContext& context,
                                 const LoadOptions& options) {
  std::optional<ParameterFiles> files;
  std::vector<MatchedParameter> matched;
  do_patiently_together_blocking(context.control(), [&] {
    files.emplace(path);
    matched = match_parameters(*files, model.config(), model.parameters(), options);
  });
  LoadedParameters loaded;
  do_together_blocking(context.control(), [&] {
    for (const auto& [parameter, stored] : matched) {
      if (stored == nullptr) {
        loaded.kept.push_back(parameter->spec.name);
        continue;
      }
      copy_blocking(parameter->value, read_part(*stored, *parameter, parameter->value.dtype));
      ++loaded.num_loaded;
    }
  });
  return loaded;
}

LoadedParameters load_parameters(const std::filesystem::path& path, Trainer& trainer,
                                 const LoadOptions& options) {
  LoadedParameters loaded = load_parameters(path, trainer.model(), trainer.context(), options);
  do_together_blocking(trainer.context().control(), [&] { trainer.optimizer().adopt_parameters_blocking(); });
  return loaded;
}

ModelConfig with_position_windows(ModelConfig config, const ParameterFiles& files) {
  if (const auto windows = files.position_windows())
    config.pretrained_windows.assign(windows->begin(), windows->end());
  return config;
}

}  // namespace flex
