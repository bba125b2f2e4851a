#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "traces/report/replay_document.h"
#include "traces/report/simulate_document.h"
#include "traces/report/training_document.h"
#include "traces/report/tune_document.h"

namespace flex {

/// What a command left: the metrics of a training run in a file whose name ends in .jsonl, else told apart by
/// its fields.
struct ReportDocument {
  std::string file;
  std::variant<ReplayDocument, TuneDocument, SimulateDocument, TrainingDocument> content;
};

/// @throws InputError with file and key or line: not JSON, none of the documents that a report is made of, a
/// wrong field, a version above the newest one, metrics without a line; FileError.
[[nodiscard]] ReportDocument read_report_document(const std::filesystem::path& path);

/// The same of a value; `where` names it in errors and on the page.
[[nodiscard]] ReportDocument parse_report_document(nlohmann::json value, const std::string& where);

/// Joins the training runs into one document, in the place of the first: they are drawn over each other.
[[nodiscard]] std::vector<ReportDocument> join_training_runs(std::vector<ReportDocument> documents);

}  // namespace flex
