#include <gmock/gmock.h>

#include <fstream>

#include "base/error.h"
#include "base/figures.h"
#include "tests/base/temporary_directory.h"
#include "tests/traces/report/browser.h"
#include "tests/traces/report/other_documents.h"
#include "tests/traces/report/sample_replay.h"
#include "tests/traces/report/sample_training.h"
#include "traces/report/chart.h"
#include "traces/report/report_page.h"
#include "traces/report/vega_library.h"

/// Pages as a reader's browser shows them.
namespace flex {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// What is between `begin` and `end`, from `at` on; `at` moves behind it. Empty if there is none.
std::string between(const std::string& text, const std::string& begin, const std::string& end,
                    std::size_t& at) {
  const std::size_t from = text.find(begin, at);
  const std::size_t to = from == std::string::npos ? from : text.find(end, from + begin.size());
  if (to == std::string::npos) {
    at = std::string::npos;
    return {};
  }
  at = to;
  return text.substr(from + begin.size(), to - from - begin.size());
}

std::vector<std::string> all_between(const std::string& text, const std::string& begin,
                                     const std::string& end) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at != std::string::npos;) {
    std::string part = between(text, begin, end, at);
    if (at != std::string::npos) parts.push_back(std::move(part));
  }
  return parts;
}

/// Things that a figure draws from its data: axes and their labels do not count.
std::size_t num_marks(const std::string& figure) {
  std::size_t marks = 0;
  for (const std::string& group : all_between(figure, " role-mark ", "</g>")) {
    for (const char* element : {"<path", "<text", "<line"}) marks += all_between(group, element, ">").size();
  }
  for (const std::string& group : all_between(figure, " role-mark\"", "</g>")) {
    for (const char* element : {"<path", "<text", "<line"}) marks += all_between(group, element, ">").size();
  }
  return marks;
}

/// The text that a figure of the summary must have.
std::string expected_text(const std::string& at, const json& value) {
  const std::string key = at.substr(at.rfind('/') + 1);
  if (key == "error_us") return "± " + format_us(value);
  if (key.ends_with("_us")) return format_us(value);
  if (key.ends_with("_bytes")) return format_bytes(value);
  if (key.starts_with("speedup")) return factor_text(value.get<double>());
  if (key == "gain") return percent_text(value.get<double>(), true);
  if (key == "share" || key == "regret_share" || key == "regret") return percent_text(value.get<double>());
  return std::to_string(value.get<std::int64_t>());
}

class ReportInBrowser : public ::testing::Test {
 protected:
  void SetUp() override {
    static const std::optional<std::string> kWhyNot = why_no_browser();
    if (kWhyNot) GTEST_SKIP() << *kWhyNot;
    try {
      vega_ = vega_script(find_vega());
    } catch (const FileError& error) {
      GTEST_SKIP() << error.what();
    }
  }

  LoadedPage load(const std::vector<json>& documents, const std::string& query = {}) {
    std::vector<ReportDocument> parsed;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      parsed.push_back(parse_report_document(documents[i], "run" + std::to_string(i) + ".json"));
    }
    return load_parsed(parsed, query);
  }

  LoadedPage load_parsed(const std::vector<ReportDocument>& parsed, const std::string& query = {}) {
    const auto path = directory_ / "report.html";
    std::ofstream(path) << report_page(parsed, vega_);
    return load_page(path, query);
  }

  /// Every chart drew something, and nothing went wrong.
  static void expect_drawn(const LoadedPage& page, std::size_t num_charts, std::size_t least_marks = 2) {
    EXPECT_EQ(page.console, "");
    EXPECT_THAT(page.html, HasSubstr("data-drawn=\"" + std::to_string(num_charts) + "\""));
    EXPECT_THAT(page.html, HasSubstr("data-errors=\"[]\""));
    const std::vector<std::string> figures = all_between(page.html, "<figure id=", "</figure>");
    EXPECT_EQ(figures.size(), num_charts);
    for (const std::string& figure : figures) {
      EXPECT_GE(num_marks(figure), least_marks) << figure.substr(0, 400);
      EXPECT_THAT(figure, testing::Not(HasSubstr("NaN"))) << figure.substr(0, 400);
    }
  }

  /// The figures of the summaries are those of the documents, with all digits and as people read them.
  static void expect_figures(const LoadedPage& page, const std::vector<json>& documents,
                             std::size_t num_figures) {
    const std::vector<std::string> cells = all_between(page.html, "data-document=\"", "</td>");
    EXPECT_EQ(cells.size(), num_figures);
    for (const std::string& cell : cells) {
      std::size_t at = 0;
      const std::size_t document = std::stoul(cell);
      const std::string pointer = between(cell, "data-at=\"", "\"", at);
      const std::string value = between(cell, "data-value=\"", "\"", at);
      const json& figure = documents.at(document).at(json::json_pointer(pointer));
      EXPECT_EQ(json::parse(value), figure) << pointer;
      EXPECT_EQ(cell.substr(cell.rfind('>') + 1), expected_text(pointer, figure)) << pointer;
    }
  }

  TemporaryDirectory directory_;
  std::string vega_;
};

TEST_F(ReportInBrowser, DrawsEveryChartOfAReplay) {
  const std::vector<json> documents = {sample_replay({})};
  const LoadedPage page = load(documents);
  expect_drawn(page, 6);
  expect_figures(page, documents, 5U * 8U);  // 5 policies, 8 figures each
}

TEST_F(ReportInBrowser, DrawsScenariosOfAllKindsOfDocumentsInTheDark) {
  const std::vector<json> documents = {sample_replay({.scenarios = {"base", "twice"}, .nodes = {4, 8}}),
                                       sample_tune(), sample_simulate()};
  const LoadedPage page = load(documents, "?theme=dark");
  expect_drawn(page, 13 + 2 + 3);
  EXPECT_THAT(page.html, HasSubstr("data-theme=\"dark\""));
  // 2 scenarios of 5 policies; 2 layers with 2 searches of 6 figures; 3 sizes with one plan of 5.
  expect_figures(page, documents, 2U * 5U * 8U + 2U * 2U * 6U + 3U * 5U);
}

// A long run, whose curves are thinned and whose gradient norm needs a logarithmic axis, over a run of one
// step, whose curves are points.
TEST_F(ReportInBrowser, DrawsTheCurvesOfTrainingRuns) {
  std::vector<ReportDocument> documents;
  for (const std::int64_t steps : {900, 1}) {
    const auto path = directory_ / ("run" + std::to_string(steps) + ".jsonl");
    std::ofstream(path) << sample_training(steps);
    documents.push_back(read_report_document(path));
  }
  expect_drawn(load_parsed({documents[0]}), 6, 1);  // a line is one mark
  expect_drawn(load_parsed({documents[1]}), 4, 1);
  expect_drawn(load_parsed(join_training_runs(documents), "?theme=dark"), 6, 1);
}

// Names that would be code in a page that took them for it.
TEST_F(ReportInBrowser, RunsNoCodeOfADocument) {
  json document = sample_replay({.steps = 6});
  const std::string evil =
      "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";
  document["scenarios"][0]["policies"][3]["policy"] = evil;
  document["scenarios"][0]["cluster"] = evil;
  const LoadedPage page = load({document});
  expect_drawn(page, 6);
  EXPECT_THAT(page.html, HasSubstr("<title>Flex report: run0.json</title>"));
}

TEST_F(ReportInBrowser, ABurstOfOneStepIsDrawn) {
  expect_drawn(load({sample_replay({.steps = 1, .layers = 1, .experts = 2})}), 6);
}

}  // namespace
}  // namespace flex
