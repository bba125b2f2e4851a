#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/profile_sweep.h"

namespace flex {

/// A profile that is measured layer by layer, so that what is there is kept whenever it ends.
struct ProfilePartsSettings {
  ProfileSettings sweep;           ///< whose budget all layers share, known ones too
  std::vector<std::string> known;  ///< parts that are not measured again; the same on all ranks
  /// Asked on every rank after each round, e.g. for a signal; one rank's yes counts for all. Null: never.
  std::function<bool()> should_stop;
};

struct ProfileParts {
  int num_measured = 0;
  int num_known = 0;
  bool stopped = false;
};

/// What a layer's samples are stored under, e.g. `bf16 T4096 M1024 H1024 E4 k2 f1, 5 plans, seed 1`.
[[nodiscard]] std::string profile_part(const ProfileSettings& settings, const LayerShape& shape);

/// Measures the layers that are not known, one after the other. On every rank `keep` gets the samples of
/// each, once it has had its rounds. `progress` is called on rank 0's thread with layers in thousandths.
/// Collective; the result is equal on all ranks. @throws InputError like ProfileSweep.
[[nodiscard]] ProfileParts profile_in_parts(
    const ProfilePartsSettings& settings, RankContext& context,
    const std::function<void(const std::string& part, std::span<const CostSample> samples)>& keep,
    const BudgetProgress& progress = {});

}  // namespace flex
