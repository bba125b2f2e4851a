#include "models/checkpoint/load_averages.h"

#include <optional>
#include <string>
#include <vector>

#include "base/require.h"
#include "base/safetensors.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/stored_tensor.h"
#include "runtime/fail_together.h"

namespace flex {
namespace {

const std::string kTrainedPrefix = "exp_avg.";  // what every trained parameter has
const std::string kAveragePrefix = "average.";

struct KeptAverage {
  const ModelParameter* parameter = nullptr;
  StoredTensor stored;
};

std::vector<KeptAverage> find_averages(const SafetensorsFile& file, const std::filesystem::path& path,
                                       const ModelParameters& parameters) {
  std::vector<KeptAverage> found;
  for (const ModelParameter& parameter : parameters.all()) {
    const std::string& name = parameter.spec.name;
    if (file.find(kTrainedPrefix + name) == nullptr) continue;
    const SafetensorsTensor* tensor = file.find(kAveragePrefix + name);
    require(tensor != nullptr, "{}: keeps no moving average of the parameters; training.average_decay was 0",
            path.string());
    const std::vector<std::int64_t> expected = extents_of(parameter.spec.shape);
    require(tensor->shape == expected && floating_dtype(tensor->dtype), "{}: {} is {} [{}], expected [{}]",
            path.string(), tensor->name, name_of(tensor->dtype), fmt::join(tensor->shape, ", "),
            fmt::join(expected, ", "));
    found.push_back({&parameter, stored_tensor(*tensor)});
  }
  return found;
}

}  // namespace

LoadedParameters load_averages(const std::filesystem::path& path, SwinV2Moe& model, RankContext& context) {
  std::optional<SafetensorsFile> file;
  std::vector<KeptAverage> averages;
  do_patiently_together_blocking(context.control(), [&] {
    require(std::filesystem::exists(path / kManifestFile),
            "{}: is no checkpoint, which alone keeps a moving average of the parameters", path.string());
    file.emplace(path / kOptimizerFile);
    averages = find_averages(*file, path / kOptimizerFile, model.parameters());
  });
  LoadedParameters loaded = load_parameters(path, model, context);
  do_together_blocking(context.control(), [&] {
    for (const auto& [parameter, stored] : averages)
      copy_blocking(parameter->value, read_part(stored, *parameter, parameter->value.dtype));
  });
  return loaded;
}

}  // namespace flex
