#pragma once

#include <string>
#include <vector>

#include "traces/report/chart.h"
#include "traces/report/report_document.h"

namespace flex {

/// Charts of one kind, of one scenario each: they stand side by side.
struct ChartRow {
  std::vector<std::string> captions;  ///< of each chart; empty if there is only one scenario
  std::vector<Chart> charts;
};

/// What a page says of one document.
struct ReportSection {
  std::string kind;      ///< `Replay`
  std::string headline;  ///< one sentence
  std::vector<std::string> notes;
  HtmlTable summary;
  std::vector<ChartRow> rows;
  std::vector<std::string> highlights;  ///< the three most important lines, as plain text
};

/// Names of all policies and plans of a document, for colours.
void add_names(const ReportDocument& document, Palette& palette);

[[nodiscard]] ReportSection replay_section(const ReplayDocument& document, const Palette& palette);
[[nodiscard]] ReportSection tune_section(const TuneDocument& document, const Palette& palette);
[[nodiscard]] ReportSection simulate_section(const SimulateDocument& document, const Palette& palette);

[[nodiscard]] ReportSection training_section(const TrainingDocument& document, const Palette& palette);

/// The one that fits.
[[nodiscard]] ReportSection section_of(const ReportDocument& document, const Palette& palette);

/// The figure at `at`, a JSON pointer into the document, as a cell with this text.
[[nodiscard]] HtmlCell figure_cell(std::string text, std::string at, double value);
[[nodiscard]] HtmlCell figure_cell(std::string text, std::string at, std::int64_t value);

}  // namespace flex
