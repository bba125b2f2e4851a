#include "models/checkpoint/training_checkpoint.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/build_facts.h"
#include "base/require.h"
#include "base/safetensors.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/checkpoint_manifest.h"
#include "models/checkpoint/gather_parameter.h"
#include "models/config_json.h"
#include "runtime/fail_together.h"
#include "runtime/gather_texts.h"

namespace flex {
namespace {

constexpr int kWriter = 0;

// Whole parameters in the optimizer's type, which the model's follow from by rounding.
std::vector<HeldTensor> model_tensors(Trainer& trainer) {
  const DType dtype = gate_dtype(trainer.training().dtype);
  std::vector<HeldTensor> tensors;
  for (const ModelParameter& parameter : trainer.model().parameters().all()) {
    const TrainedTensor* trained = trainer.optimizer().find(parameter.spec.name);
    tensors.push_back({.name = parameter.spec.name,
                       .parameter = &parameter,
                       .local = trained != nullptr ? trained->parameter : parameter.value,
                       .stored = dtype});
  }
  return tensors;
}

std::vector<HeldTensor> optimizer_tensors(Trainer& trainer) {
  const DType dtype = gate_dtype(trainer.training().dtype);
  std::vector<HeldTensor> tensors;
  for (const ModelParameter& parameter : trainer.model().parameters().all()) {
    const TrainedTensor* trained = trainer.optimizer().find(parameter.spec.name);
    if (trained == nullptr) continue;
    const auto add = [&](std::string_view prefix, const TensorView& local) {
      if (local.present())
        tensors.push_back({fmt::format("{}.{}", prefix, parameter.spec.name), &parameter, local, dtype});
    };
    add("exp_avg", trained->first_moment);
    add("exp_avg_sq", trained->second_moment);
    add("average", trained->average);
  }
  return tensors;
}

// `path` is rank 0's concern.
void write_tensors(const std::filesystem::path& path, const std::vector<HeldTensor>& tensors,
                   const std::map<std::string, std::string>& metadata, RankContext& context) {
  Communicator& control = context.control();
  std::optional<ParameterGatherer> gatherer;
  std::optional<SafetensorsStream> stream;
  const bool writes = context.rank() == kWriter;
  do_together_blocking(control, [&] {
    gatherer.emplace(tensors, context);
    if (!writes) return;
    std::vector<SafetensorsEntry> entries;
    entries.reserve(tensors.size());
    for (const HeldTensor& tensor : tensors) entries.push_back(entry_of(tensor));
    stream.emplace(path, entries, metadata);
  });
  for (const HeldTensor& tensor : tensors) {
    const std::span<const std::byte> whole = gatherer->gather_blocking(tensor);
    do_patiently_together_blocking(control, [&] {
      if (writes) stream->write(whole);
    });
  }
  do_patiently_together_blocking(control, [&] {
    if (writes) stream->commit();
  });
}

CheckpointManifest manifest_of(Trainer& trainer, const TrainerState& state) {
  return {.state = state,
          .model = trainer.model().config(),
          .training = trainer.training(),
          .world = trainer.context().size(),
          .software = "flexmoe " + build_facts().version};
}

// Keys whose values differ, as `KEY was A, is B`.
void add_differences(const nlohmann::ordered_json& was, const nlohmann::ordered_json& is,
                     const std::string& prefix, std::vector<std::string>& differences) {
  for (const auto& [key, value] : is.items()) {
    const nlohmann::ordered_json before = was.contains(key) ? was.at(key) : nlohmann::ordered_json();
    if (value.is_object() && before.is_object()) {
      add_differences(before, value, prefix + key + ".", differences);
    } else if (value != before) {
      differences.push_back(fmt::format("{}{} was {}, is {}", prefix, key, before.dump(), value.dump()));
    }
  }
  for (const auto& [key, value] : was.items()) {
    if (!is.contains(key))
      differences.push_back(fmt::format("{}{} was {}, is gone", prefix, key, value.dump()));
  }
}

// What tells a model's function from another's.
nlohmann::ordered_json identity_of(const ModelConfig& config) {
  nlohmann::ordered_json json = to_json(config);
  json.erase("name");
  json.erase("checkpointed");
  if (json.contains("moe")) json["moe"].erase("regather_weights");
  return json;
}

void require_same_model(const std::filesystem::path& path, const CheckpointManifest& manifest,
                        const Trainer& trainer, const ModelConfig& model) {
  std::vector<std::string> differences;
  add_differences(identity_of(manifest.model), identity_of(model), "", differences);
  require(differences.empty(), "{}: is of another model: {}", path.string(), fmt::join(differences, "; "));
  const DType was = gate_dtype(manifest.training.dtype);
  const DType is = gate_dtype(trainer.training().dtype);
  require(was == is, "{}: was trained in {}, whose optimizer keeps {}; training.dtype {} needs {}",
          path.string(), name(manifest.training.dtype), name(was), name(trainer.training().dtype), name(is));
}

// All that is wanted is there in its shape and type, and nothing else.
void require_tensors(const std::filesystem::path& path, const SafetensorsFile& file,
                     const std::vector<HeldTensor>& tensors) {
  std::set<std::string_view> wanted_names;
  for (const HeldTensor& tensor : tensors) {
    const SafetensorsTensor& stored = file.at(tensor.name);
    wanted_names.insert(tensor.name);
    const SafetensorsEntry wanted = entry_of(tensor);
    require(stored.shape == wanted.shape && stored.dtype == wanted.dtype,
            "{}: tensor {} is {} [{}], expected {} [{}]", path.string(), tensor.name, name_of(stored.dtype),
            fmt::join(stored.shape, ", "), name_of(wanted.dtype), fmt::join(wanted.shape, ", "));
  }
  for (const SafetensorsTensor& stored : file.tensors())
    require(wanted_names.contains(stored.name), "{}: tensor {} is none of this training's", path.string(),
            stored.name);
}

void read_tensors(const SafetensorsFile& file, const std::vector<HeldTensor>& tensors) {
  for (const HeldTensor& tensor : tensors) {
    copy_blocking(tensor.local,
                  read_part(stored_tensor(file.at(tensor.name)), *tensor.parameter, tensor.local.dtype));
  }
}

// The copies that layers read of what is trained in a wider type.
void narrow_parameters(Trainer& trainer, const SafetensorsFile& file) {
  for (const ModelParameter& parameter : trainer.model().parameters().all()) {
    const TrainedTensor* trained = trainer.optimizer().find(parameter.spec.name);
    if (trained == nullptr || !trained->narrow.present()) continue;
    copy_blocking(trained->narrow,
                  read_part(stored_tensor(file.at(parameter.spec.name)), parameter, trained->narrow.dtype));
  }
}

}  // namespace

std::filesystem::path save_checkpoint(const std::filesystem::path& folder, Trainer& trainer,
                                      std::int64_t keep) {
  RankContext& context = trainer.context();
  const bool writes = context.rank() == kWriter;
  CheckpointManifest manifest = manifest_of(trainer, trainer.state_blocking());
  std::optional<CheckpointDirectory> directory;
  std::filesystem::path result = folder / checkpoint_name(manifest.state.step);
  do_patiently_together_blocking(context.control(), [&] {
    if (writes) directory.emplace(folder, manifest.state.step);
  });
  const std::filesystem::path place = writes ? directory->path() : std::filesystem::path();
  const std::map<std::string, std::string> metadata = {{"model", to_json(manifest.model).dump()},
                                                       {"software", manifest.software}};
  write_tensors(place / kModelFile, model_tensors(trainer), metadata, context);
  write_tensors(place / kOptimizerFile, optimizer_tensors(trainer), {{"software", manifest.software}},
                context);
  do_patiently_together_blocking(context.control(), [&] {
    if (!writes) return;
    for (const std::string_view name : {kModelFile, kOptimizerFile}) {
      const std::filesystem::path file = place / name;
      manifest.files[std::string(name)] = {
          .bytes = static_cast<std::int64_t>(std::filesystem::file_size(file)),
          .checksum = file_checksum(file)};
    }
    write_manifest(manifest, place);
    result = directory->commit();
    if (keep > 0) prune_checkpoints(folder, keep);
  });
  return result;
}

LoadedCheckpoint load_checkpoint(const std::filesystem::path& path, Trainer& trainer) {
  RankContext& context = trainer.context();
  Communicator& control = context.control();
  const std::vector<HeldTensor> parameters = model_tensors(trainer);
  const std::vector<HeldTensor> kept = optimizer_tensors(trainer);
  CheckpointManifest manifest;
  std::optional<SafetensorsFile> model;
  std::optional<SafetensorsFile> optimizer;
  do_patiently_together_blocking(control, [&] {
    manifest = read_manifest(path);
    check_files(manifest, path, context.rank() == kWriter);
    require_same_model(path, manifest, trainer, trainer.model().config());
    model.emplace(path / kModelFile);
    optimizer.emplace(path / kOptimizerFile);
    require_tensors(path / kModelFile, *model, parameters);
    require_tensors(path / kOptimizerFile, *optimizer, kept);
  });
  LoadedCheckpoint loaded{.path = path, .step = manifest.state.step};
  add_differences(to_json(manifest.training), to_json(trainer.training()), "", loaded.changed);
  do_together_blocking(control, [&] {
    read_tensors(*model, parameters);
    narrow_parameters(trainer, *model);
    read_tensors(*optimizer, kept);
    trainer.restore_blocking(manifest.state);
  });
  return loaded;
}

std::optional<LoadedCheckpoint> resume_from(const std::filesystem::path& folder, Trainer& trainer) {
  Communicator& control = trainer.context().control();
  FoundCheckpoint found;
  do_patiently_together_blocking(control, [&] {
    if (trainer.context().rank() == kWriter) found = find_latest_checkpoint(folder);
  });
  const auto from_writer = [&](const std::string& text) {
    return gather_texts_blocking(text, control)[kWriter];
  };
  const std::string path = from_writer(found.path ? found.path->string() : std::string());
  const std::string damaged = from_writer(fmt::format("{}", fmt::join(found.damaged, "\n")));
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < damaged.size();) {
    const std::size_t end = std::min(damaged.find('\n', begin), damaged.size());
    lines.push_back(damaged.substr(begin, end - begin));
    begin = end + 1;
  }
  if (path.empty()) {
    require(lines.empty(), "{}: no checkpoint is whole: {}", folder.string(), fmt::join(lines, "; "));
    return std::nullopt;
  }
  LoadedCheckpoint loaded = load_checkpoint(path, trainer);
  loaded.damaged = std::move(lines);
  return loaded;
}

}  // namespace flex
