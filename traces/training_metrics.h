#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// What a training run says of itself, as JSON Lines: a flat object a line, told apart by `kind`.
namespace flex {

/// A figure that is not known, or was not finite: left out in the file.
inline constexpr double kNoFigure = std::numeric_limits<double>::quiet_NaN();

/// `"kind": "step"`: one training step.
struct StepMetrics {
  std::int64_t step = 0;  ///< steps that are done, this one included
  std::int64_t epoch = 0;
  double loss = kNoFigure;  ///< cross entropy and the weighted auxiliary loss
  double cross_entropy = kNoFigure;
  double auxiliary_loss = kNoFigure;
  double gradient_norm = kNoFigure;
  double learning_rate = kNoFigure;
  double loss_scale = kNoFigure;
  bool updated = true;              ///< false: a gradient was not finite, and nothing was changed
  double images_per_s = kNoFigure;  ///< since the line before
  std::optional<double> moe_share;  ///< part of the step's time in MoE layers, in [0, 1]; of sampled steps
  std::string plans;                ///< what most MoE layers ran, and how many others; may be empty
};

/// `"kind": "evaluation"`.
struct EvaluationMetrics {
  std::int64_t step = 0;  ///< steps that were done before
  std::int64_t epoch = 0;
  std::int64_t samples = 0;
  double loss = kNoFigure;  ///< mean cross entropy
  double top1 = 0;          ///< in [0, 1]
  double top5 = 0;
};

using MetricsRecord = std::variant<StepMetrics, EvaluationMetrics>;

/// One line with its end.
[[nodiscard]] std::string metrics_line(const MetricsRecord& record);

struct ParsedMetricsLine {
  MetricsRecord record;
  std::size_t begin = 0;  ///< of the line in the content
  std::size_t end = 0;    ///< behind its end, or behind the content if that is missing
  bool has_end = true;
};

/// Calls `visit` with each line of a file's content. A last line that is cut off, which a killed run may
/// leave, is left out. @throws InputError `FILE:LINE: ...` for what is no line of metrics, an unknown key, or
/// steps that go back.
void parse_metrics(std::string_view content, const std::string& file,
                   const std::function<void(const ParsedMetricsLine&)>& visit);

struct TrainingMetrics {
  std::vector<StepMetrics> steps;
  std::vector<EvaluationMetrics> evaluations;
};

/// Largest file of metrics that is read, in bytes: some million steps.
inline constexpr std::int64_t kMaxMetricsBytes = std::int64_t{1} << 30;

/// @throws InputError as parse_metrics(), or for a file above kMaxMetricsBytes; FileError.
[[nodiscard]] TrainingMetrics read_metrics(const std::filesystem::path& path);

}  // namespace flex
