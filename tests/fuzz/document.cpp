#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "tests/fuzz/fuzz.h"
#include "traces/report/report_document.h"
#include "traces/report/report_page.h"

/// What `flexmoe report` reads: documents of replay, tune and simulate. A page can be made of one that is
/// taken.
void fuzz_one(std::string_view input) {
  try {
    const std::vector documents = {
        flex::parse_report_document(flex::parse_json(input, "run.json"), "run.json")};
    (void)flex::report_page(documents, "");
    (void)flex::report_highlights(documents);
  } catch (const flex::InputError&) {  // NOLINT(bugprone-empty-catch): refused, as promised
  }
}
