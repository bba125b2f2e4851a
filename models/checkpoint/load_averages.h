#pragma once

#include <filesystem>

#include "models/checkpoint/load_parameters.h"

namespace flex {

/// Fills a model with the moving averages of the parameters that the checkpoint at `path` keeps; parameters
/// that were not trained have their values. Nothing is changed unless all of it fits. Collective, like
/// load_parameters(). @throws InputError also for what is no checkpoint, or one that keeps no averages.
LoadedParameters load_averages(const std::filesystem::path& path, SwinV2Moe& model, RankContext& context);

}  // namespace flex
