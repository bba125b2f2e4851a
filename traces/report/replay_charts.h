#pragma once

#include <optional>

#include "traces/report/chart.h"
#include "traces/report/replay_document.h"

/// The charts of one scenario of a replay. Nothing where the document lacks what a chart shows. `most` is the
/// end of the axis of durations that scenarios of one document share.
namespace flex {

/// Bars with bands, one for each policy.
[[nodiscard]] Chart totals_chart(const ReportScenario& scenario, const Palette& palette, double most_us);

/// The needed and the bound capacity as steps, and a strip of plans for each policy; the reader picks the
/// layer.
[[nodiscard]] std::optional<Chart> plans_chart(const ReportScenario& scenario, const Palette& palette);

/// Time above the oracle; the reader picks the sum so far or each step. `steps` of the trace.
[[nodiscard]] std::optional<Chart> regret_chart(const ReportScenario& scenario, const Palette& palette,
                                                std::int64_t steps);

/// Bars by class of operation; the reader picks shares or times.
[[nodiscard]] std::optional<Chart> classes_chart(const ReportScenario& scenario, double most_us);

/// Operations of one iteration by rank and stream.
[[nodiscard]] std::optional<Chart> timeline_chart(const ReportScenario& scenario);

/// Load of the experts over time; the reader picks the layer. `experts` by layer.
[[nodiscard]] std::optional<Chart> load_chart(const ReportScenario& scenario,
                                              const std::vector<std::int64_t>& experts);

/// Total time by ranks and policy, both axes logarithmic.
[[nodiscard]] std::optional<Chart> scaling_chart(const ReplayDocument& document, const Palette& palette);

}  // namespace flex
