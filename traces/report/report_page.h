#pragma once

#include <span>
#include <string>
#include <vector>

#include "traces/report/report_document.h"

namespace flex {

/// One HTML page over these documents that needs nothing else: no file beside it, no network. `vega`: see
/// vega_script(). Equal input gives an equal page.
[[nodiscard]] std::string report_page(std::span<const ReportDocument> documents, const std::string& vega);

/// The three most important lines: of one document all that it has, of several the first ones of each.
[[nodiscard]] std::vector<std::string> report_highlights(std::span<const ReportDocument> documents);

}  // namespace flex
