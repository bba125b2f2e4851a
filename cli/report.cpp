#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "cli/commands.h"
#include "traces/report/report_document.h"
#include "traces/report/report_page.h"
#include "traces/report/vega_library.h"

// flexmoe report RUN... -o report.html
// One page over what replay, tune, simulate and train left; docs/report.md says what is on it.
namespace flex::cli {
namespace {

struct ReportOptions {
  std::vector<std::string> runs;
  std::string output;
  std::string vega;
};

void run(const ReportOptions& options) {
  std::vector<ReportDocument> documents;
  documents.reserve(options.runs.size());
  for (const std::string& file : options.runs) documents.push_back(read_report_document(file));
  documents = join_training_runs(std::move(documents));
  const std::string vega =
      vega_script(options.vega.empty() ? find_vega() : std::filesystem::path(options.vega));
  write_file_atomically(options.output, report_page(documents, vega));
  fmt::print("{}\n", options.output);
  for (const std::string& line : report_highlights(documents)) fmt::print("  {}\n", line);
}

}  // namespace

void add_report(CLI::App& app) {
  CLI::App* command = app.add_subcommand("report", "Make one self-contained HTML page of what runs left");
  auto options = std::make_shared<ReportOptions>();
  command
      ->add_option(
          "runs", options->runs,
          "Files of replay -o, tune --json or simulate --json, and the metrics (.jsonl) of training runs")
      ->required()
      ->type_name("FILE");
  command->add_option("-o,--output", options->output, "The page to write")->required()->type_name("FILE");
  command->add_option("--vega", options->vega, "Folder with Vega's modules (that of the package libjs-vega)")
      ->type_name("DIR");
  command->footer(
      "Example:\n  flexmoe simulate --experts-per-rank 2 --scale 16..2048 --json > scale.json\n"
      "  flexmoe report scale.json -o report.html");
  command->callback([options] { run(*options); });
}

}  // namespace flex::cli
