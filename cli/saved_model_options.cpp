#include "cli/saved_model_options.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/require.h"

namespace flex::cli {
namespace {

void set_routing(const SavedModelOptions& options, ModelConfig& model) {
  ModelMoe& moe = model.moe;
  if (options.capacity_factor) moe.inference.capacity_factor = *options.capacity_factor;
  if (options.top_k) moe.inference.top_k = *options.top_k;
  if (options.batch_prioritized) moe.batch_prioritized_routing = true;
  if (options.token_order) moe.batch_prioritized_routing = false;
  const bool changes =
      options.capacity_factor || options.top_k || options.batch_prioritized || options.token_order;
  require(!changes || !moe.blocks.empty(),
          "{} has no MoE layers: there is no --capacity-factor, --top-k or order of tokens", model.name);
  validate(model);
}

DType dtype_of(const SavedModelOptions& options, DType trained) {
  if (!options.dtype.empty()) return *parse_dtype(options.dtype);
  const bool is_cuda = parse_device(options.machine.device).is_cuda();
  const bool is_computed = is_cuda ? trained != DType::kF64 : size_bytes(trained) > 2;
  return is_computed ? trained : DType::kF32;
}

// Other launchers tell the number of ranks later, when the model is made.
std::int64_t batch_of(const SavedModelOptions& options, std::int64_t trained) {
  const std::int64_t ranks = options.machine.launcher == "threads" ? options.machine.ranks : 1;
  if (!options.batch) return (trained + ranks - 1) / ranks * ranks;
  require(*options.batch % ranks == 0, "--batch {}: must be a multiple of the {} ranks", *options.batch,
          ranks);
  return *options.batch;
}

}  // namespace

SavedModel SavedModelOptions::open() const {
  SavedModel saved = open_saved_model(path, config);
  for (const std::string& line : saved.damaged) log_warning("damaged checkpoint: {}", line);
  ModelFile& file = saved.file;
  set_routing(*this, file.model);
  if (image_size) file.model = with_image_size(file.model, *image_size);
  file.training.dtype = dtype_of(*this, file.training.dtype);
  file.training.batch_size = batch_of(*this, file.training.batch_size);
  return saved;
}

void add_saved_model_options(CLI::App& command, SavedModelOptions& options) {
  command
      .add_option("model", options.path,
                  "The folder of a run (its newest whole checkpoint), a checkpoint, or a .safetensors file")
      ->required();
  command
      .add_option("--config", options.config,
                  "A model's .json file, instead of what the model tells of itself")
      ->check(CLI::ExistingFile);
  command.add_flag("--average", options.average,
                   "Of a checkpoint: the moving average of the parameters instead of the last ones");
  add_rank_options(command, options.machine);
  command
      .add_option(
          "--dtype", options.dtype,
          "Element type: fp32 or fp64 on cpu; fp32, fp16 or bf16 on cuda (otherwise that of training)")
      ->check(CLI::IsMember({"fp32", "fp64", "fp16", "bf16"}));
  command.add_option("--batch", options.batch, "Images at once, over all ranks (otherwise as in training)")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--image-size", options.image_size,
                  "Rows and columns of images, other than in training: windows stay as large as they fit")
      ->check(CLI::PositiveNumber);
  command.add_option("--capacity-factor", options.capacity_factor,
                     "f of the MoE layers: above 0 fixed capacity, 0 dropless, below 0 dropless up to -f");
  command.add_option("--top-k", options.top_k, "Experts that each token takes, k")
      ->check(CLI::PositiveNumber);
  CLI::Option* prioritized =
      command.add_flag("--batch-prioritized", options.batch_prioritized,
                       "Where capacity is short, tokens with large scores are served first");
  command.add_flag("--token-order", options.token_order, "Where capacity is short, earlier tokens are")
      ->excludes(prioritized);
  add_model_plan_options(command, options.plans);
}

std::string description(const SavedModel& saved) {
  const std::string path = saved.parameters.string();
  return saved.step ? fmt::format("{} (step {})", path, *saved.step) : path;
}

}  // namespace flex::cli
