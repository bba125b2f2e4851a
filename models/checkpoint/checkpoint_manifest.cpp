#include "models/checkpoint/checkpoint_manifest.h"

#include <fcntl.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/build_facts.h"
#include "base/file_descriptor.h"
#include "base/file_error.h"
#include "base/json.h"
#include "base/json_object.h"
#include "base/require.h"
#include "models/config_json.h"
#include "tuner/checksum.h"

namespace flex {
namespace {

constexpr std::string_view kFormat = "flexmoe checkpoint";
constexpr int kHexadecimal = 16;

// Over the text in one form: keys in alphabetical order, no blanks.
std::string checksum_of(const nlohmann::json& json) {
  Checksum sum;
  sum.add(std::string_view(json.dump()));
  return fmt::format("{:016x}", sum.value());
}

std::uint64_t read_checksum(JsonObject& json) {
  const auto text = json.required<std::string>("checksum");
  std::size_t used = 0;
  try {
    const std::uint64_t value = std::stoull(text, &used, kHexadecimal);
    if (used == text.size()) return value;
  } catch (const std::exception&) {
    used = 0;
  }
  json.reject("checksum", "is {}; it must be a hexadecimal number", quote_name(text));
}

std::map<std::string, StoredFile> read_files(JsonObject json) {
  std::map<std::string, StoredFile> files;
  for (const std::string_view name : {kModelFile, kOptimizerFile}) {
    auto file = json.required<JsonObject>(name);
    StoredFile& stored = files[std::string(name)];
    stored.bytes = file.required<std::int64_t>("bytes", JsonRange::at_least(0));
    stored.checksum = read_checksum(file);
    file.finish();
  }
  json.finish();
  return files;
}

}  // namespace

void write_manifest(const CheckpointManifest& manifest, const std::filesystem::path& directory) {
  nlohmann::ordered_json files;
  for (const auto& [name, file] : manifest.files)
    files[name] = {{"bytes", file.bytes}, {"checksum", fmt::format("{:016x}", file.checksum)}};
  nlohmann::ordered_json json = {{"format", kFormat},
                                 {"format_version", CheckpointManifest::kFormatVersion},
                                 {"step", manifest.state.step},
                                 {"updates", manifest.state.updates},
                                 {"data_position", manifest.state.step},
                                 {"loss_scale", manifest.state.loss_scale},
                                 {"good_steps", manifest.state.good_steps},
                                 {"world", manifest.world},
                                 {"software", manifest.software},
                                 {"model", to_json(manifest.model)},
                                 {"training", to_json(manifest.training)},
                                 {"files", files}};
  json["checksum"] = checksum_of(nlohmann::json(json));
  write_file_atomically(directory / kManifestFile, json.dump(2) + "\n");
}

CheckpointManifest read_manifest(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kManifestFile;
  nlohmann::json document = read_json_file(path);
  JsonObject json(document, path.string());
  if (const auto format = json.required<std::string>("format"); format != kFormat)
    json.reject("format", "is {}; expected {}", quote_name(format), quote_name(kFormat));
  // A later version may have any other keys, so that its number comes first.
  const auto version = json.required<std::int64_t>("format_version");
  if (version != CheckpointManifest::kFormatVersion)
    json.reject("format_version", "is {}; flexmoe {} reads version {}", version, build_facts().version,
                CheckpointManifest::kFormatVersion);
  const auto checksum = json.required<std::string>("checksum");
  document.erase("checksum");
  require(checksum == checksum_of(document), "{}: its checksum is another; it is damaged", path.string());
  CheckpointManifest manifest;
  const JsonRange not_negative = JsonRange::at_least(0);
  TrainerState& state = manifest.state;
  state.step = json.required<std::int64_t>("step", not_negative);
  state.updates = json.required<std::int64_t>("updates", not_negative);
  if (const auto position = json.required<std::int64_t>("data_position"); position != state.step)
    json.reject("data_position", "is {}; it must be the step, {}", position, state.step);
  state.loss_scale = json.required<double>("loss_scale", JsonRange::above(0));
  state.good_steps = json.required<int>("good_steps", not_negative);
  manifest.world = json.required<int>("world", JsonRange::at_least(1));
  manifest.software = json.required<std::string>("software");
  auto model = json.required<JsonObject>("model");
  manifest.model = read_model_config(model);
  model.finish();
  manifest.training = read_training_config(json.required<JsonObject>("training"));
  manifest.files = read_files(json.required<JsonObject>("files"));
  json.finish();
  return manifest;
}

std::uint64_t file_checksum(const std::filesystem::path& path) {
  constexpr std::size_t kBlockBytes = std::size_t{1} << 20;  // part of the format: sums are over blocks
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) fail_file("open", path, errno);
  std::vector<std::byte> block(kBlockBytes);
  Checksum sum;
  while (true) {
    std::size_t filled = 0;
    while (filled < kBlockBytes) {
      const ssize_t count = ::read(file.get(), block.data() + filled, kBlockBytes - filled);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_file("read", path, errno);
      if (count == 0) break;
      filled += static_cast<std::size_t>(count);
    }
    sum.add(std::span(block).first(filled));
    if (filled < kBlockBytes) return sum.value();
  }
}

void check_files(const CheckpointManifest& manifest, const std::filesystem::path& directory,
                 bool reads_files) {
  for (const auto& [name, stored] : manifest.files) {
    const std::filesystem::path path = directory / name;
    std::error_code error;
    const auto bytes = std::filesystem::file_size(path, error);
    require(!error, "{}: the file is missing", path.string());
    require(std::cmp_equal(bytes, stored.bytes), "{}: has {} bytes; the manifest says {}", path.string(),
            bytes, stored.bytes);
    if (!reads_files) continue;
    require(file_checksum(path) == stored.checksum, "{}: its checksum is not the manifest's; it is damaged",
            path.string());
  }
}

}  // namespace flex
