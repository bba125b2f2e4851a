#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/checkpoint/parameter_files.h"
#include "models/trainer.h"

namespace flex {

/// What of a file may differ from the model.
struct LoadOptions {
  bool keeps_head = false;  ///< a head of another number of classes stays as the model initialized it
};

struct LoadedParameters {
  std::int64_t num_loaded = 0;
  std::vector<std::string> kept{};  ///< the model's parameters that stayed as they were: those of the head
};

/// Fills a model with the parameters of a file (see ParameterFiles), under timm's or the released names and
/// in any floating type, for inference or to go on from. All is compared first: names, shapes, types, the
/// coordinates of the position bias. Nothing is changed unless all of it fits. Image and window may be of
/// another size than in the file if pretrained_windows says so: see with_position_windows().
/// Collective; all ranks must see the file. Each rank reads its part of it.
/// @throws InputError that names what is missing, too much, or of another shape (the first few and their
/// number); FileError.
LoadedParameters load_parameters(const std::filesystem::path& path, SwinV2Moe& model, RankContext& context,
                                 const LoadOptions& options = {});
/// The same for a trainer, whose moments and step stay as they are, and whose fp32 copies and averages begin
/// anew.
LoadedParameters load_parameters(const std::filesystem::path& path, Trainer& trainer,
                                 const LoadOptions& options = {});

/// `config` with the pretrained_windows that a file's position bias needs, where the file tells them. To be
/// called before the model is made.
[[nodiscard]] ModelConfig with_position_windows(ModelConfig config, const ParameterFiles& files);

}  // namespace flex
