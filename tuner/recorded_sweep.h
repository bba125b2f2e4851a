#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "costmodel/plan.h"
#include "costmodel/workload.h"
#include "tuner/search.h"

namespace flex {

/// One evaluation as a sweep stores it, one JSON object per line of a file:
///
///   {"workload": {"world": 4, "num_experts": 8, "num_tokens": 256, "capacity": 64, "top_k": 2,
///    "model_dim": 128, "hidden_dim": 256, "dtype": "fp32"}, "plan": "r1 d2 linear", "pass": "forward",
///    "samples_ns": [812000, 799500, 805100]}
///
/// Fields of the workload that are as the struct has them by default are left out, but for those above. A
/// plan that could not run has `why_not` in the place of its samples.
struct RecordedPass {
  Workload workload;  ///< its pass is that of the evaluation
  Plan plan;
  std::vector<std::int64_t> samples_ns;
  std::string why_not;

  friend bool operator==(const RecordedPass&, const RecordedPass&) = default;
};

/// What a search evaluated.
[[nodiscard]] std::vector<RecordedPass> recorded(const Workload& workload,
                                                 std::span<const EvaluatedPlan> evaluations);

/// One line, without its end.
[[nodiscard]] std::string to_json_line(const RecordedPass& pass);
/// @throws InputError naming `file`, the line and the key.
[[nodiscard]] std::vector<RecordedPass> parse_sweep(std::string_view text, const std::string& file);
/// The same from a file of at most 256 MiB. @throws InputError, FileError.
[[nodiscard]] std::vector<RecordedPass> read_sweep(const std::filesystem::path& file);
/// Written beside its place and renamed. @throws FileError.
void write_sweep(const std::filesystem::path& file, std::span<const RecordedPass> passes);

}  // namespace flex
