#include "cli/checkpoint_table.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/table.h"
#include "models/config_json.h"

namespace flex::cli {
namespace {

/// Tensors of one layer, neighbours in the list.
struct Layer {
  std::string name;
  std::vector<const StoredTensor*> tensors;

  [[nodiscard]] std::int64_t parameters() const {
    std::int64_t sum = 0;
    for (const StoredTensor* tensor : tensors) sum += is_buffer(tensor->name) ? 0 : tensor->num_elements();
    return sum;
  }
};

// `layers.2.blocks.1`, `layers.2.downsample`, `patch_embed`, `norm`, `head`: all up to the part that counts
// for one thing.
std::string layer_of(std::string_view name) {
  std::size_t end = name.find('.');
  if (name.starts_with("layers.")) {
    const std::size_t stage = name.find('.', end + 1);
    end = name.find('.', stage == std::string_view::npos ? stage : stage + 1);
    if (end != std::string_view::npos && name.substr(0, end).ends_with("blocks"))
      end = name.find('.', end + 1);
  }
  return std::string(name.substr(0, end));
}

std::vector<Layer> layers_of(const ParameterFiles& files) {
  std::vector<Layer> layers;
  for (const StoredTensor& tensor : files.tensors()) {
    const std::string name = layer_of(tensor.name);
    const auto known = std::ranges::find(layers, name, &Layer::name);
    (known == layers.end() ? layers.emplace_back(Layer{.name = name}) : *known).tensors.push_back(&tensor);
  }
  return layers;
}

std::string names_text(const ParameterFiles& files) {
  const ParameterNaming naming = naming_of(files.names());
  if (naming.has_fc_head && naming.merges_before) return "timm";
  return !naming.has_fc_head && !naming.merges_before ? "swin_moe" : "mixed";
}

std::int64_t num_parameters(const std::vector<Layer>& layers) {
  std::int64_t sum = 0;
  for (const Layer& layer : layers) sum += layer.parameters();
  return sum;
}

std::string manifest_text(const CheckpointManifest& manifest) {
  const TrainerState& state = manifest.state;
  return fmt::format(
      "step {} of {}, {} updates, loss scale {}, seed {}\nwritten by {} on {} rank(s); trained in {}\n",
      state.step, manifest.training.steps, state.updates, state.loss_scale, manifest.training.seed,
      manifest.software, manifest.world, name(manifest.training.dtype));
}

std::string model_text(const ParameterFiles& files) {
  const std::optional<ModelConfig> model = files.model();
  std::string text = fmt::format("model {}, block {}, {} names", model ? model->name : "of no stated name",
                                 name(block_of(files.names())), names_text(files));
  if (model)
    text += fmt::format(", {} x {}, {} classes", model->image_size, model->image_size, model->num_classes);
  if (model && !model->moe.blocks.empty()) text += fmt::format(", {} experts", model->moe.num_experts);
  if (files.num_rank_files() > 0)
    text += fmt::format(", experts in the files of {} rank(s)", files.num_rank_files());
  return text + "\n";
}

}  // namespace

std::string checkpoint_text(const InspectedCheckpoint& inspected) {
  const std::vector<Layer> layers = layers_of(inspected.files);
  std::string text = fmt::format("{}\n{}", inspected.files.path().string(), model_text(inspected.files));
  if (inspected.manifest) text += manifest_text(*inspected.manifest);
  text += inspected.damage ? fmt::format("DAMAGED: {}\n\n", *inspected.damage) : "whole\n\n";
  Table table({{"layer", Align::kLeft},
               {"tensor", Align::kLeft},
               {"shape", Align::kLeft},
               {"type", Align::kLeft},
               {"parameters"}});
  for (const Layer& layer : layers) {
    table.add({layer.name, fmt::format("{} tensor(s)", layer.tensors.size()), "", "",
               fmt::format("{}", layer.parameters())});
    for (const StoredTensor* tensor : layer.tensors) {
      const std::size_t prefix = std::min(layer.name.size() + 1, tensor->name.size());
      table.add({"", tensor->name.substr(prefix), fmt::format("[{}]", fmt::join(tensor->shape, ", ")),
                 std::string(name_of(tensor->dtype)),
                 is_buffer(tensor->name) ? "buffer" : fmt::format("{}", tensor->num_elements())});
    }
  }
  return text + table.text() +
         fmt::format("\n{} tensors, {} parameters\n", inspected.files.tensors().size(),
                     num_parameters(layers));
}

nlohmann::ordered_json checkpoint_json(const InspectedCheckpoint& inspected) {
  const ParameterFiles& files = inspected.files;
  const std::vector<Layer> layers = layers_of(files);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Layer& layer : layers) {
    nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
    for (const StoredTensor* tensor : layer.tensors)
      tensors.push_back(
          {{"name", tensor->name}, {"shape", tensor->shape}, {"dtype", name_of(tensor->dtype)}});
    rows.push_back({{"name", layer.name}, {"parameters", layer.parameters()}, {"tensors", tensors}});
  }
  nlohmann::ordered_json json = {{"path", files.path().string()},
                                 {"whole", !inspected.damage},
                                 {"damage", inspected.damage.value_or("")},
                                 {"block", name(block_of(files.names()))},
                                 {"names", names_text(files)},
                                 {"rank_files", files.num_rank_files()},
                                 {"parameters", num_parameters(layers)}};
  if (const auto model = files.model()) json["model"] = to_json(*model);
  if (const auto& manifest = inspected.manifest) {
    json["step"] = manifest->state.step;
    json["updates"] = manifest->state.updates;
    json["loss_scale"] = manifest->state.loss_scale;
    json["world"] = manifest->world;
    json["software"] = manifest->software;
    json["training"] = to_json(manifest->training);
  }
  json["layers"] = std::move(rows);
  return json;
}

}  // namespace flex::cli
