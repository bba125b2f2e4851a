#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/log.h"
#include "base/require.h"
#include "cli/checkpoint_table.h"
#include "cli/commands.h"
#include "models/checkpoint/checkpoint_folder.h"
#include "models/checkpoint/convert_parameters.h"

// flexmoe checkpoint inspect PATH [--json]
// flexmoe checkpoint convert PATH -o OUT --to timm|swin_moe|flex [--ranks N]
// Checkpoints and files of parameters; docs/checkpoints.md says what is in them.
namespace flex::cli {
namespace {

constexpr const char* kPathHelp =
    "A .safetensors file, a checkpoint's directory, or a folder of checkpoints (its newest whole one)";

struct ConvertOptions {
  std::string path;
  std::string output;
  std::string convention;
  int ranks = 0;
};

// What a path stands for: of a folder of checkpoints the newest whole one.
std::filesystem::path resolve(const std::string& text) {
  std::filesystem::path path = text;
  if (!std::filesystem::is_directory(path) || std::filesystem::exists(path / kManifestFile)) return path;
  const FoundCheckpoint found = find_latest_checkpoint(path);
  for (const std::string& line : found.damaged) log_warning("{}", line);
  require(found.path.has_value(), "{}: holds neither {} nor a whole checkpoint step_...", text,
          kManifestFile);
  return *found.path;
}

// False for a file so damaged that it does not even list its tensors.
bool is_readable(const std::filesystem::path& path) {
  try {
    static_cast<void>(ParameterFiles(path));
    return true;
  } catch (const Error&) {
    return false;
  }
}

void inspect(const std::string& text, bool json, Outcome& outcome) {
  const std::filesystem::path path = resolve(text);
  std::optional<CheckpointManifest> manifest;
  std::optional<std::string> damage;
  if (std::filesystem::is_directory(path)) {
    manifest = read_manifest(path);
    try {
      check_files(*manifest, path, true);
    } catch (const InputError& error) {
      damage = error.what();
    }
  }
  if (damage && !is_readable(path)) {
    const nlohmann::ordered_json short_json = {
        {"path", path.string()}, {"whole", false}, {"damage", *damage}};
    json ? fmt::print("{}\n", short_json.dump(2)) : fmt::print("{}\nDAMAGED: {}\n", path.string(), *damage);
    outcome.exit_code = 1;
    return;
  }
  const InspectedCheckpoint inspected = {ParameterFiles(path), std::move(manifest), std::move(damage)};
  json ? fmt::print("{}\n", checkpoint_json(inspected).dump(2))
       : fmt::print("{}", checkpoint_text(inspected));
  outcome.exit_code = inspected.damage ? 1 : 0;
}

void convert(const ConvertOptions& options) {
  const std::filesystem::path path = resolve(options.path);
  if (std::filesystem::is_directory(path)) check_files(read_manifest(path), path, true);
  const ParameterFiles files(path);
  const auto written =
      convert_parameters(files, options.output, *parse_name_convention(options.convention), options.ranks);
  for (const std::filesystem::path& file : written) fmt::print("{}\n", file.string());
}

void add_inspect(CLI::App& checkpoint, Outcome& outcome) {
  CLI::App* command = checkpoint.add_subcommand(
      "inspect", "Tensors by layer, step and model; exit code 1 if the files are not as the manifest says");
  auto path = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("path", *path, kPathHelp)->required()->check(CLI::ExistingPath);
  command->add_flag("--json", *json, "Print JSON");
  command->footer("Example:\n  flexmoe checkpoint inspect checkpoints/step_00001200");
  command->callback([path, json, &outcome] { inspect(*path, *json, outcome); });
}

void add_convert(CLI::App& checkpoint) {
  CLI::App* command =
      checkpoint.add_subcommand("convert", "Write the parameters under the names of another program");
  auto options = std::make_shared<ConvertOptions>();
  command->add_option("path", options->path, kPathHelp)->required();
  command->add_option("-o,--output", options->output, "The .safetensors file to write")->required();
  command
      ->add_option("--to", options->convention,
                   "timm's names, those of Swin-MoE as published, or those of the model itself")
      ->required()
      ->check(CLI::IsMember({"timm", "swin_moe", "flex"}));
  command
      ->add_option("--ranks", options->ranks,
                   "Write the experts of each of so many ranks to a file of its own, NAME.rank0.safetensors")
      ->check(CLI::PositiveNumber);
  command->footer(
      "Example:\n  flexmoe checkpoint convert checkpoints -o swin_moe.safetensors --to swin_moe --ranks 8");
  command->callback([options] { convert(*options); });
}

}  // namespace

void add_checkpoint(CLI::App& app, Outcome& outcome) {
  CLI::App* command = app.add_subcommand("checkpoint", "Look at checkpoints and convert them");
  command->require_subcommand(1);
  add_inspect(*command, outcome);
  add_convert(*command);
}

}  // namespace flex::cli
