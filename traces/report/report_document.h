#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "traces/report/replay_document.h"
#include "traces/report/simulate_document.h"
#include "traces/report/tune_document.h"

namespace flex {

/// What a command left, told apart by its fields.
struct ReportDocument {
  std::string file;
  std::variant<ReplayDocument, TuneDocument, SimulateDocument> content;
};

/// @throws InputError with file and key: not JSON, none of the documents that a report is made of, a wrong
/// field, a version above the newest one; FileError.
[[nodiscard]] ReportDocument read_report_document(const std::filesystem::path& path);

/// The same of a value; `where` names it in errors and on the page.
[[nodiscard]] ReportDocument parse_report_document(nlohmann::json value, const std::string& where);

}  // namespace flex
