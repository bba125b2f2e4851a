#include "runtime/profile_parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/require.h"

namespace flex {

std::string profile_part(const ProfileSettings& settings, const LayerShape& shape) {
  return fmt::format("{} {}, {} plans, seed {}", name(settings.dtype), to_string(shape),
                     settings.plans_per_shape, settings.seed);
}

ProfileParts profile_in_parts(
    const ProfilePartsSettings& settings, RankContext& context,
    const std::function<void(const std::string& part, std::span<const CostSample> samples)>& keep,
    const BudgetProgress& progress) {
  constexpr int kSteps = 1000;
  const std::vector<LayerShape>& shapes = settings.sweep.shapes;
  require(!shapes.empty(), "a profile needs at least one layer");
  ProfileParts parts;
  Stream stream(context.device());
  for (std::size_t i = 0; i < shapes.size() && !parts.stopped; ++i) {
    const std::string part = profile_part(settings.sweep, shapes[i]);
    if (std::ranges::find(settings.known, part) != settings.known.end()) {
      ++parts.num_known;
      continue;
    }
    ProfileSettings one = settings.sweep;
    one.shapes = {shapes[i]};
    one.budget_s /= static_cast<double>(shapes.size());
    ProfileSweep sweep(one, context, stream);
    const Rounds rounds = run_rounds(
        one.budget_s, one.min_rounds, context, [&] { sweep.run_round_blocking(); },
        [&](int done, int total) {
          const int before = static_cast<int>(i) * kSteps;
          if (progress)
            progress(before + done * kSteps / std::max(total, 1), static_cast<int>(shapes.size()) * kSteps);
        },
        settings.should_stop);
    parts.stopped = rounds.stopped;
    if (rounds.count < one.min_rounds) break;
    keep(part, sweep.samples());
    ++parts.num_measured;
  }
  return parts;
}

}  // namespace flex
